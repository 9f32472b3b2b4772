// A dialog in which a square part of a picture is chosen.

const SIZE = 512; // pixels of the result
const KEY_STEP = 0.02; // of the view, per key press

export class Cropper {
  /** `dialog` holds #crop-view, #zoom, #consent, #crop-use and #crop-status. */
  constructor(dialog) {
    this.dialog = dialog;
    this.view = dialog.querySelector("#crop-view");
    this.zoom = dialog.querySelector("#zoom");
    this.consent = dialog.querySelector("#consent");
    this.use = dialog.querySelector("#crop-use");
    this.status = dialog.querySelector("#crop-status");
    this.zoom.addEventListener("input", () => this.#draw());
    this.consent.addEventListener("change", () => { this.use.disabled = !this.consent.checked; });
    this.view.addEventListener("pointerdown", (event) => this.view.setPointerCapture(event.pointerId));
    this.view.addEventListener("pointermove", (event) => {
      if (event.buttons) this.#move(event.movementX / this.view.clientWidth, event.movementY / this.view.clientHeight);
    });
    this.view.addEventListener("wheel", (event) => { event.preventDefault(); this.#enlarge(-event.deltaY / 500); }, { passive: false });
    this.view.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Let the user choose a part of the file, and pass it to `accept` as a PNG blob. Rejects if it is no picture. */
  async choose(file, accept) {
    this.picture = await createImageBitmap(file);
    this.zoom.value = 1;
    this.x = this.y = 0.5;
    this.consent.checked = false;
    this.use.disabled = true;
    this.status.textContent = "";
    this.#draw();
    this.dialog.showModal();
    this.use.onclick = async () => {
      this.use.disabled = true;
      try {
        await accept(await new Promise((resolve) => this.view.toBlob(resolve, "image/png")));
        this.dialog.close();
      } catch (error) {
        this.status.textContent = error.message;
        this.use.disabled = !this.consent.checked;
      }
    };
  }

  #key(event) {
    const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (moves[event.key]) this.#move(...moves[event.key].map((x) => x * KEY_STEP));
    else if (event.key === "+" || event.key === "=") this.#enlarge(0.1);
    else if (event.key === "-") this.#enlarge(-0.1);
    else return;
    event.preventDefault();
  }

  #enlarge(by) {
    this.zoom.value = Number(this.zoom.value) + by;
    this.#draw();
  }

  #move(x, y) {
    const side = this.#side();
    this.x -= (x * side) / this.picture.width;
    this.y -= (y * side) / this.picture.height;
    this.#draw();
  }

  /** Side of the chosen square in pixels of the picture. */
  #side() {
    return Math.min(this.picture.width, this.picture.height) / Number(this.zoom.value);
  }

  #draw() {
    const { width, height } = this.picture;
    const side = this.#side();
    const limit = (value, half) => Math.min(1 - half, Math.max(half, value));
    this.x = limit(this.x, side / 2 / width);
    this.y = limit(this.y, side / 2 / height);
    const pen = this.view.getContext("2d");
    pen.drawImage(this.picture, this.x * width - side / 2, this.y * height - side / 2, side, side, 0, 0, SIZE, SIZE);
  }
}
