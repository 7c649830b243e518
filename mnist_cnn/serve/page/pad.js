// The drawing area. What is on it is a scene: strokes, or a picture that came from elsewhere.
// Scenes are never changed, only replaced, so that undoing is going back to the one before.

const EMPTY = { picture: null, file: null, strokes: [] };
const PEN = 0.07; // width of a stroke, in sides of the pad
const SENT = 280; // pixels of the side of what is sent
const STEP = 0.02; // of the pad's side, for an arrow key
const LEAST = 0.04; // of the pad's side, for a part of a picture that is cut out

export class Pad {
  // onChange() is called after each change, also in the middle of a stroke.
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.scene = EMPTY;
    this.history = [];
    this.pointer = null; // id of the pointer that is drawing
    this.pen = { x: 0.5, y: 0.3, down: false, shown: false }; // of the keyboard
    this.boxes = []; // of the digits that were read, [left, top, right, bottom] in what was sent
    this.cropping = false; // whether dragging cuts out a part of the picture
    this.cut = null; // the corners of that part, while it is dragged
    canvas.addEventListener("pointerdown", (event) => this.start(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.end(event));
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.showPen(false));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    this.paint();
  }

  get isEmpty() {
    return !this.scene.picture && this.scene.strokes.length === 0;
  }

  // A dot is where a stroke begins, and no digit.
  get isReadable() {
    return Boolean(this.scene.picture) || this.scene.strokes.some((stroke) => stroke.length > 1);
  }

  get canUndo() {
    return this.history.length > 0;
  }

  get hasPicture() {
    return Boolean(this.scene.picture);
  }

  // Show where digits were read: {digit, box} of each.
  mark(digits) {
    this.boxes = digits;
    this.paint();
  }

  undo() {
    if (!this.canUndo) return;
    this.lift();
    this.show(this.history.pop());
  }

  clear() {
    this.lift();
    if (!this.isEmpty) this.replace(EMPTY);
  }

  // Show a picture's file; throws if the browser cannot decode it.
  async open(file) {
    const picture = await createImageBitmap(file);
    this.lift();
    this.replace({ picture, file, strokes: [] });
  }

  // What the network is to see: the file as it came, or the strokes, black on white.
  async blob() {
    if (this.scene.file) return this.scene.file;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SENT;
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, SENT, SENT);
    drawStrokes(context, this.scene.strokes, SENT, "black");
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  // End the stroke that is being drawn, if one is.
  lift() {
    this.pointer = null;
    this.pen.down = false;
  }

  replace(scene) {
    this.history.push(this.scene);
    this.show(scene);
  }

  show(scene) {
    this.scene = scene;
    this.boxes = [];
    this.paint();
    this.onChange();
  }

  // Pointers: mouse, pen and finger alike. A second finger does not draw.

  start(event) {
    if (this.pointer !== null || event.button !== 0) return;
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.showPen(false);
    if (this.cropping) this.cut = [this.place(event), this.place(event)];
    else this.begin(this.place(event));
  }

  move(event) {
    if (event.pointerId !== this.pointer) return;
    if (this.cut) {
      this.cut[1] = this.place(event);
      return this.paint();
    }
    const events = event.getCoalescedEvents?.() ?? [];
    this.extend((events.length ? events : [event]).map((e) => this.place(e)));
  }

  async end(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    const cut = this.cut;
    this.cut = null;
    if (cut && event.type === "pointerup") await this.crop(...cut);
    else if (cut) this.paint();
  }

  // Cut out a part of the picture, given by two of its corners on the pad.
  async crop(one, other) {
    const { picture } = this.scene;
    const { left, top, scale } = frame(picture, 1);
    const pixels = ([x, y]) => [
      Math.min(picture.width, Math.max(0, (x - left) / scale)),
      Math.min(picture.height, Math.max(0, (y - top) / scale)),
    ];
    const [[x1, y1], [x2, y2]] = [pixels(one), pixels(other)];
    const [width, height] = [Math.abs(x2 - x1), Math.abs(y2 - y1)].map(Math.round);
    if (Math.min(width, height) * scale < LEAST) return this.paint();
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(picture, -Math.min(x1, x2), -Math.min(y1, y2));
    const file = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    this.cropping = false;
    await this.open(file);
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  begin(point) {
    this.replace({ picture: null, file: null, strokes: [...this.scene.strokes, [point]] });
  }

  extend(points) {
    const strokes = this.scene.strokes;
    const last = [...(strokes.at(-1) ?? []), ...points];
    this.show({ ...this.scene, strokes: [...strokes.slice(0, -1), last] });
  }

  // Keys

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) {
      const [x, y] = moves[event.key];
      const step = event.shiftKey ? 3 * STEP : STEP;
      this.pen.x = Math.min(0.97, Math.max(0.03, this.pen.x + step * x));
      this.pen.y = Math.min(0.97, Math.max(0.03, this.pen.y + step * y));
      if (this.pen.down) this.extend([[this.pen.x, this.pen.y]]);
    } else if (event.key === " " || event.key === "Enter") {
      const down = !this.pen.down;
      if (down) this.begin([this.pen.x, this.pen.y]);
      this.pen.down = down;
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
    this.showPen(true);
  }

  showPen(shown) {
    this.pen.shown = shown;
    if (!shown) this.pen.down = false;
    this.paint();
  }

  paint() {
    const side = this.canvas.width;
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    context.clearRect(0, 0, side, side);
    const { picture, strokes } = this.scene;
    const { left, top, scale } = picture ? frame(picture, side) : { left: 0, top: 0, scale: side / SENT };
    if (picture) {
      context.imageSmoothingEnabled = scale < 4;
      context.drawImage(picture, left, top, picture.width * scale, picture.height * scale);
    }
    drawStrokes(context, strokes, side, style.color);
    context.strokeStyle = context.fillStyle = style.getPropertyValue("--accent");
    context.lineWidth = 3;
    context.font = `600 ${side / 24}px system-ui, sans-serif`;
    for (const { digit, box } of this.boxes) {
      const [x1, y1, x2, y2] = box.map((place, i) => (i % 2 ? top : left) + place * scale);
      context.strokeRect(x1 - 4, y1 - 4, x2 - x1 + 8, y2 - y1 + 8);
      context.fillText(digit, x1 - 3, y1 - 10 > side / 24 ? y1 - 10 : y2 + side / 20);
    }
    if (this.cut) {
      const [[x1, y1], [x2, y2]] = this.cut.map((corner) => corner.map((place) => place * side));
      context.setLineDash([9, 7]);
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
      context.setLineDash([]);
    }
    if (this.pen.shown) {
      context.beginPath();
      context.arc(this.pen.x * side, this.pen.y * side, (PEN * side) / 2 + 5, 0, 2 * Math.PI);
      context.lineWidth = 4;
      context.setLineDash(this.pen.down ? [] : [9, 7]);
      context.strokeStyle = style.getPropertyValue("--accent");
      context.stroke();
      context.setLineDash([]);
    }
  }
}

// Where a picture lies in a square, as large as it can be, and how many times its size it has.
function frame({ width, height }, side) {
  const scale = Math.min(side / width, side / height);
  return { left: (side - width * scale) / 2, top: (side - height * scale) / 2, scale };
}

// Smooth curves: through the middles between the points, which pull them.
function drawStrokes(context, strokes, side, colour) {
  context.strokeStyle = colour;
  context.lineWidth = PEN * side;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * side, y * side]);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i < points.length - 1; i++) {
      const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points.at(-1)); // a dot, if there is but one
    context.stroke();
  }
}
