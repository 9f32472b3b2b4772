// One session of /v1/realtime/video, as events.

const REPORT_MS = 500; // between reports of the playback position
const RETRIES = 3;

export class Session extends EventTarget {
  /**
   * Connect, and send `start` (the fields of session.start).
   * `position()` gives the playback position in seconds. `key`: the API key, or "".
   * Events: "start", "fragment", "caption", "speech", "silence", "interrupted", "done", "failed", each with `detail`.
   */
  constructor(start, position, key) {
    super();
    this.position = position;
    this.key = key;
    this.next = 0;
    this.waiting = [];
    this.#connect({ type: "session.start", ...start });
  }

  /** Send a message. Messages wait until the session has started. */
  send(message) {
    if (this.id && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
    else if (!this.over) this.waiting.push(message);
  }

  /** Stop the speech. */
  interrupt() {
    this.send({ type: "interrupt", audio_end_ms: this.#milliseconds() });
  }

  /** End the session without waiting for the rest. */
  close() {
    this.over = true;
    clearInterval(this.timer);
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send('{"type": "session.stop"}');
    this.socket.close();
  }

  #milliseconds() {
    return Math.round(1000 * this.position());
  }

  #connect(first) {
    const address = new URL("v1/realtime/video", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const protocols = this.key ? ["talker", `key.${this.key}`] : []; // the server answers with the first
    this.socket = new WebSocket(address, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.socket.send(JSON.stringify(first));
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.#event(JSON.parse(data)) : this.#fragment(data));
    this.socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    clearInterval(this.timer);
    this.timer = setInterval(() => {
      if (this.id) this.send({ type: "playback", position_ms: this.#milliseconds() });
    }, REPORT_MS);
  }

  #event(event) {
    switch (event.type) {
      case "video.start": {
        const again = this.id === event.request_id;
        this.id = event.request_id;
        this.retries = 0;
        if (!again) this.#emit("start", event.config);
        for (const message of this.waiting.splice(0)) this.send(message);
        break;
      }
      case "video.chunk_metadata":
        this.metadata = event;
        break;
      case "caption":
        this.#emit("caption", event);
        break;
      case "speech.started":
        this.#emit("speech", event);
        break;
      case "speech.ended":
        this.#emit("silence", event);
        break;
      case "session.interrupted":
        this.#emit("interrupted", event);
        break;
      case "session.done":
        this.#finish("done", event);
        break;
      case "error":
        this.#emit("failed", event);
        break;
    }
  }

  #fragment(bytes) {
    this.next = this.metadata.transport_chunk_index + 1;
    this.#emit("fragment", { bytes, metadata: this.metadata });
  }

  #closed(code, reason) {
    if (this.over) return;
    this.retries = (this.retries ?? 0) + 1;
    const lost = code === 1006 || code === 1001;
    if (this.id && lost && this.retries <= RETRIES) {
      const resume = { type: "session.resume", request_id: this.id, transport_chunk_index: this.next };
      setTimeout(() => this.over || this.#connect(resume), 500 * this.retries);
      return;
    }
    if (lost && !this.id) this.#emit("failed", { code: "unreachable", message: "The server cannot be reached." });
    this.#finish("done", { finish_reason: reason || "the connection was closed", rtf: null });
  }

  #finish(name, detail) {
    this.over = true;
    clearInterval(this.timer);
    this.#emit(name, detail);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
