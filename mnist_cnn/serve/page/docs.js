// The API's documentation. Not FastAPI's page: that one's script is inline, which the
// Content-Security-Policy forbids, and comes from another host.
window.SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", deepLinking: true });
