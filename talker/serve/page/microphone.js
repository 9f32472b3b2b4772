// Sound of the microphone as base64 of 16-bit samples, mono at 24 kHz.

const SAMPLE_RATE = 24000;
const PIECE = 2400; // samples: a tenth of a second

export class Microphone {
  /** Ask for the microphone and call `send(base64)` for every piece until `stop`. Rejects if it is refused. */
  static async open(send) {
    const echo = { echoCancellation: true, noiseSuppression: true, channelCount: 1 };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: echo });
    const context = new AudioContext({ sampleRate: SAMPLE_RATE });
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    const microphone = new Microphone();
    Object.assign(microphone, { stream, context, send, samples: new Int16Array(PIECE), count: 0 });
    node.port.onmessage = ({ data }) => microphone.#add(data);
    context.createMediaStreamSource(stream).connect(node);
    return microphone;
  }

  /** Send the rest and release the microphone. */
  stop() {
    this.stream.getTracks().forEach((track) => track.stop());
    this.context.close();
    if (this.count) this.#flush();
  }

  #add(block) {
    for (const value of block) {
      this.samples[this.count++] = Math.round(32767 * Math.max(-1, Math.min(1, value)));
      if (this.count === PIECE) this.#flush();
    }
  }

  #flush() {
    const bytes = new Uint8Array(this.samples.buffer, 0, 2 * this.count);
    this.send(btoa(String.fromCharCode(...bytes)));
    this.count = 0;
  }
}
