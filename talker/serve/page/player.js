// Plays fragmented MP4 that arrives piece by piece, with MediaSource, or ManagedMediaSource on iPhones.

const START_SECONDS = 0.3; // buffered before playback starts, so that it does not stop at once
const KEPT_SECONDS = 30; // of played media that stay in the buffer
const JUMP_SECONDS = 0.5; // gaps up to this length are skipped
const STALL_SECONDS = 0.05; // before the end of a buffered range, where browsers stop

export class Player {
  /** `video`: the element. Each stream replaces the one before. */
  constructor(video) {
    this.video = video;
    this.close();
  }

  /** Start a stream with these codecs, such as "avc1.64000D, mp4a.40.2". Call it after a click, because of the sound. */
  open(codecs) {
    this.close();
    const Source = globalThis.ManagedMediaSource ?? globalThis.MediaSource;
    const type = `video/mp4; codecs="${codecs}"`;
    if (!Source || !Source.isTypeSupported(type)) throw new Error("This browser cannot play the stream.");
    const source = new Source();
    this.source = source;
    // Without this, an iPhone does not open the source.
    if (globalThis.ManagedMediaSource) this.video.disableRemotePlayback = true;
    source.addEventListener("sourceopen", () => {
      if (this.source !== source || this.buffer) return;
      this.buffer = source.addSourceBuffer(type);
      this.buffer.addEventListener("updateend", () => this.#work());
      this.#work();
    });
    source.addEventListener("startstreaming", () => { this.wanted = true; this.#work(); });
    source.addEventListener("endstreaming", () => { this.wanted = false; });
    this.wanted = true;
    this.url = URL.createObjectURL(source);
    this.video.src = this.url;
  }

  /** Add the next piece. */
  append(bytes) {
    this.waiting.push(bytes);
    this.#work();
  }

  /** Play on at this time as soon as it is buffered; until then the video is paused. */
  skip(seconds) {
    this.target = seconds;
    this.video.pause();
    this.#work();
  }

  /** Playback position in seconds, or the time at which playback will go on. */
  get position() {
    return Math.max(this.video.currentTime, this.target ?? 0);
  }

  /** Mark the end of the stream. */
  end() {
    this.ended = true;
    this.#work();
  }

  /** Drop the stream. */
  close() {
    if (this.url) {
      URL.revokeObjectURL(this.url);
      this.video.pause();
      this.video.removeAttribute("src");
      this.video.load();
    }
    this.source = this.buffer = this.url = null;
    this.waiting = [];
    this.ended = this.started = false;
    this.target = null;
  }

  /** Seconds of media after the playback position. */
  get ahead() {
    const { buffered, currentTime } = this.video;
    for (let k = 0; k < buffered.length; k++) {
      if (currentTime < buffered.end(k)) return buffered.end(k) - Math.max(currentTime, buffered.start(k));
    }
    return 0;
  }

  #work() {
    const { buffer, source, video } = this;
    if (!buffer || buffer.updating || source.readyState !== "open") return;
    this.#play();
    if (this.wanted && this.waiting.length) {
      try {
        buffer.appendBuffer(this.waiting[0]);
        this.waiting.shift();
      } catch (error) {
        if (error.name !== "QuotaExceededError") throw error;
        if (!this.#forget(1)) setTimeout(() => this.#work(), 500);
      }
    } else if (!this.#forget(KEPT_SECONDS) && this.ended && !this.waiting.length) {
      source.endOfStream();
    }
  }

  /** Remove played media but the last seconds. Returns whether there was any. */
  #forget(seconds) {
    const { buffered, currentTime } = this.video;
    const end = currentTime - seconds;
    if (!buffered.length || end - buffered.start(0) < 1) return false;
    this.buffer.remove(buffered.start(0), end);
    return true;
  }

  /** Start at the first buffered time, and skip gaps. */
  #play() {
    const { buffered } = this.video;
    if (!buffered.length) return;
    if (!this.started) {
      const complete = this.ended && !this.waiting.length;
      if (buffered.end(0) - buffered.start(0) < START_SECONDS && !complete) return;
      this.started = true;
      if (this.video.currentTime < buffered.start(0)) this.video.currentTime = buffered.start(0);
      this.video.play().catch(() => {}); // the user has paused or left
      return;
    }
    if (this.target !== null && buffered.end(buffered.length - 1) > this.target + START_SECONDS) {
      this.video.currentTime = this.target;
      this.target = null;
      this.video.play().catch(() => {});
    }
    for (let k = 1; k < buffered.length; k++) {
      const { currentTime } = this.video;
      const gap = buffered.start(k) - currentTime;
      const stalls = buffered.end(k - 1) - currentTime < STALL_SECONDS;
      if (stalls && gap > 0 && gap < JUMP_SECONDS) this.video.currentTime = buffered.start(k);
    }
  }
}
