// The server's API, with the key if it wants one.

const STORED = "mnist-cnn-api-key";

export class Problem extends Error {}

async function request(path, options = {}) {
  const key = sessionStorage.getItem(STORED);
  const headers = key ? { "X-API-Key": key } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Problem("The server does not answer.");
  }
  if (response.status === 401) {
    await askForKey();
    return request(path, options);
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(body.detail ?? `The server answered ${response.status}.`);
  return body;
}

// One dialog for all requests that wait for the key.
let asking = null;

function askForKey() {
  const dialog = document.getElementById("key-dialog");
  const input = document.getElementById("key");
  asking ??= new Promise((resolve) => {
    input.value = "";
    dialog.showModal();
    dialog.addEventListener(
      "close",
      () => {
        sessionStorage.setItem(STORED, input.value);
        asking = null;
        resolve();
      },
      { once: true },
    );
  });
  return asking;
}

// {digit, confidence, probabilities, pixels} and, if asked for, contributions.
export function predict(blob, contributions) {
  const form = new FormData();
  form.append("image", blob, "digit");
  return request(`predict?pixels=true&contributions=${contributions}`, { method: "POST", body: form });
}

export const info = () => request("info");
