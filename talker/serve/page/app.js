// The page: choices, one session at a time, and figures of its latency.

import { Cropper } from "./cropper.js";
import { Microphone } from "./microphone.js";
import { Player } from "./player.js";
import { Session } from "./session.js";
import { Waveform } from "./waveform.js";

const $ = (id) => document.getElementById(id);
const video = $("video");
const player = new Player(video);
const cropper = new Cropper($("crop"));
const state = { key: sessionStorage.getItem("key") ?? "", images: new Map(), session: null, microphone: null,
  speech: { start: Infinity, end: Infinity } };

// -- requests ------------------------------------------------------------------------------------------------

/** fetch with the API key. Asks for one if the server wants it. Rejects with the message of the server. */
async function request(path, options = {}) {
  const headers = state.key ? { Authorization: `Bearer ${state.key}` } : {};
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    await askKey();
    return request(path, options);
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => null);
    throw new Error(body?.error?.message ?? `The server answered ${answer.status}.`);
  }
  return answer;
}

function askKey() {
  $("key").showModal();
  return new Promise((resolve) => {
    $("key").addEventListener("close", () => {
      state.key = $("key-value").value;
      sessionStorage.setItem("key", state.key);
      resolve();
    }, { once: true });
  });
}

// -- portraits and voices ------------------------------------------------------------------------------------

async function loadPortraits(chosen) {
  const { data } = await (await request("v1/portraits")).json();
  $("portraits").replaceChildren();
  for (const { id, name } of data) {
    if (!state.images.has(id)) {
      const picture = await (await request(`v1/portraits/${encodeURIComponent(id)}/content`)).blob();
      state.images.set(id, URL.createObjectURL(picture));
    }
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "portrait", value: id });
    const image = Object.assign(document.createElement("img"), { src: state.images.get(id), alt: "" });
    label.append(input, image, name);
    $("portraits").append(label);
  }
  const wanted = document.querySelector(`input[name=portrait][value="${CSS.escape(chosen ?? data[0].id)}"]`);
  wanted.checked = true;
  showStill();
}

async function loadVoices() {
  const { data } = await (await request("v1/audio/voices")).json();
  $("voice").replaceChildren(...data.map(({ id, name }) => new Option(name, id)));
}

function portrait() {
  return document.querySelector("input[name=portrait]:checked").value;
}

function showStill() {
  $("still").src = state.images.get(portrait());
  $("still").hidden = false;
  video.hidden = true;
  $("caption").replaceChildren();
}

async function upload(blob) {
  const body = new FormData();
  body.append("image", blob, "portrait.png");
  body.append("name", `picture ${new Date().toLocaleTimeString("en-GB")}`);
  body.append("crop", "none");
  body.append("consent", "agreed on the page");
  const { id } = await (await request("v1/portraits", { method: "POST", body })).json();
  await loadPortraits(id);
  say("Your picture is ready.");
}

// -- one session ---------------------------------------------------------------------------------------------

function say(message) {
  $("status").textContent = message;
}

/** Start a session with these fields, and play it. It goes on until another one starts, or nothing is said for long. */
function start(fields) {
  const pieces = [];
  stop();
  state.waveform ??= new Waveform($("wave"), video);
  state.waveform.resume();
  $("download").hidden = true;
  for (const id of ["first", "buffer", "speed"]) $(id).textContent = "–";
  say("Starting …");
  const session = new Session({ portrait: portrait(), ...fields }, () => player.position, state.key);
  session.fields = JSON.stringify({ portrait: portrait(), ...fields });
  state.session = session;
  const captions = [];

  session.addEventListener("start", ({ detail }) => {
    player.open(detail.codecs);
    video.addEventListener("playing", () => {
      video.hidden = false;
      $("still").hidden = true;
    }, { once: true });
  });
  session.addEventListener("speech", ({ detail }) => {
    state.speech = { start: detail.start_ms / 1000, end: Infinity };
    $("interrupt").disabled = false;
    video.requestVideoFrameCallback?.(showLatency);
  });
  session.addEventListener("silence", ({ detail }) => {
    state.speech.end = detail.end_ms / 1000;
    if (detail.rtf) $("speed").textContent = `${(1 / detail.rtf).toFixed(1)} × real time`;
    URL.revokeObjectURL($("download").href);
    $("download").href = URL.createObjectURL(new Blob(pieces, { type: "video/mp4" }));
    $("download").hidden = false;
  });
  session.addEventListener("fragment", ({ detail }) => {
    pieces.push(detail.bytes);
    player.append(detail.bytes);
  });
  session.addEventListener("caption", ({ detail }) => captions.push(detail));
  session.addEventListener("failed", ({ detail }) => say(detail.code === "idle" ? "" : detail.message));
  session.addEventListener("interrupted", ({ detail }) => {
    captions.length = 0;
    player.skip(detail.generated_ms / 1000);
    $("interrupt").disabled = true;
    say("Interrupted");
  });
  session.addEventListener("done", () => {
    releaseMicrophone();
    if (player.target === null) player.end();
    else showStill(); // interrupted, and no input follows
  });

  video.onended = () => {
    $("interrupt").disabled = true;
    say("");
  };
  video.ontimeupdate = () => {
    $("buffer").textContent = `${player.ahead.toFixed(1)} s`;
    showCaption(captions);
    showSpeech();
  };
  return session;
}

/** Measure the time from the click to the first frame of the speech. */
function showLatency(now, { mediaTime }) {
  if (mediaTime < state.speech.start) video.requestVideoFrameCallback(showLatency);
  else $("first").textContent = `${((now - state.clicked) / 1000).toFixed(2)} s`;
}

/** Say whether the face speaks or waits at the playback position. */
function showSpeech() {
  const { start, end } = state.speech;
  const now = video.currentTime;
  if (now >= end && !$("interrupt").disabled) {
    $("interrupt").disabled = true;
    say("");
  } else if (now >= start && now < end && !$("interrupt").disabled) {
    say("Speaking");
  }
}

/** Show the words around the playback position: those of the last three seconds. */
function showCaption(captions) {
  const now = 1000 * video.currentTime;
  const near = captions.filter(({ start_ms }) => start_ms <= now && now - start_ms < 3000);
  const words = near.map(({ text, end_ms }) => {
    const word = document.createElement("span");
    word.textContent = `${text} `;
    word.className = end_ms < now ? "said" : "";
    return word;
  });
  $("caption").replaceChildren(...words);
}

function stop() {
  releaseMicrophone();
  state.session?.close();
  state.session = null;
  state.speech = { start: Infinity, end: Infinity };
  $("interrupt").disabled = true;
  player.close();
}

function releaseMicrophone() {
  const { microphone } = state;
  state.microphone = null;
  if (!microphone) return;
  microphone.stop();
  $("talk").textContent = "Start speaking";
}

// -- controls ------------------------------------------------------------------------------------------------

function byText() {
  return $("by-text").getAttribute("aria-pressed") === "true";
}

function choose(text) {
  $("by-text").setAttribute("aria-pressed", String(text));
  $("by-sound").setAttribute("aria-pressed", String(!text));
  $("text-input").hidden = !text;
  $("sound-input").hidden = text;
  $("talk").textContent = text ? "Talk" : "Start speaking";
}

/** Speak a text, in the session of the text before it if face and voice are the same. */
function speak(text) {
  const fields = { voice: $("voice").value };
  const same = state.session?.fields === JSON.stringify({ portrait: portrait(), ...fields });
  const session = same && !state.session.over ? state.session : start(fields);
  say("Starting …");
  session.send({ type: "input_text.append", text });
  session.send({ type: "input_text.commit" });
}

async function talk() {
  state.clicked = performance.now();
  if (byText()) {
    const prompt = $("text").value.trim();
    if (!prompt) {
      say("Type a text first.");
      $("text").focus();
    } else {
      speak(prompt);
    }
    return;
  }
  if (state.microphone) { // the second press ends the sound; the rest is still played
    releaseMicrophone();
    state.session.send({ type: "input_audio.end" });
    return;
  }
  const session = start({ input: "audio" });
  try {
    state.microphone = await Microphone.open((audio) => session.send({ type: "input_audio.append", audio }));
    $("talk").textContent = "Stop speaking";
    say("Speak now");
  } catch (error) {
    stop();
    say(error.name === "NotAllowedError" ? "Allow the microphone for this page, then try again." : error.message);
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  talk();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("talk").click();
});
$("interrupt").addEventListener("click", () => state.session?.interrupt());
$("by-text").addEventListener("click", () => choose(true));
$("by-sound").addEventListener("click", () => choose(false));
$("portraits").addEventListener("change", () => {
  if (!$("interrupt").disabled) return;
  stop();
  showStill();
});
$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  $("file").value = "";
  if (!file) return;
  try {
    await cropper.choose(file, upload);
  } catch {
    say("This picture cannot be opened: choose a JPEG, PNG or WebP file.");
  }
});

try {
  await Promise.all([loadPortraits(), loadVoices()]);
  $("talk").disabled = false;
} catch (error) {
  say(error.message);
}
