// Draws the sound of the video while it plays.

const STEP = 4; // pixels per column

export class Waveform {
  /** `canvas`: where to draw; `video`: whose sound. Create it after a click, as browsers ask for sound. */
  constructor(canvas, video) {
    this.canvas = canvas;
    this.levels = new Float32Array(Math.floor(canvas.width / STEP));
    this.context = new AudioContext();
    this.analyser = new AnalyserNode(this.context, { fftSize: 1024 });
    this.samples = new Float32Array(this.analyser.fftSize);
    this.video = video;
    const draw = () => { this.#draw(); requestAnimationFrame(draw); };
    draw();
  }

  /** Call it after a click. Where no sound device works, the video plays on without a waveform. */
  async resume() {
    await this.context.resume();
    this.source ??= this.context.createMediaElementSource(this.video);
    this.source.connect(this.analyser).connect(this.context.destination);
  }

  #draw() {
    if (!this.video.paused) {
      this.analyser.getFloatTimeDomainData(this.samples);
      this.levels.copyWithin(0, 1);
      this.levels[this.levels.length - 1] = this.samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    }
    const { width, height } = this.canvas;
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = getComputedStyle(this.canvas).getPropertyValue("--accent");
    this.levels.forEach((level, k) => {
      const tall = Math.max(2, level * height);
      pen.fillRect(k * STEP, (height - tall) / 2, STEP - 1, tall);
    });
  }
}
