// The page of a running camera. It requests the state once a second, and the next picture when the last one is shown, so
// that a slow viewer gets fewer pictures, never late ones. A hidden page requests nothing.

const STATE_MS = 1000;
const RETRY_MS = 1500;
const HISTORY = 60;
const SLIDER_MS = 80;
const WORDS = {
  opening: "opening", live: "live", stalled: "no frames", lost: "connection lost", paused: "paused",
  ended: "ended", failed: "failed",
};
const HAS_VIEW = ["live", "paused", "ended"];
const FACTS = [
  ["Received", (s) => [s.received]],
  ["Processed", (s) => [s.processed]],
  ["Dropped", (s) => [total(s.dropped), Object.entries(s.dropped).map(([cause, n]) => `${n} ${cause}`).join(", ")]],
  ["In flight", (s) => [s.in_flight]],
  ["Camera", (s) => [`${s.source_fps.toFixed(1)} FPS`, s.size ? `${s.size[1]}×${s.size[0]}` : ""]],
  ["Newest frame", (s) => [s.age_s === null ? "–" : `${s.age_s.toFixed(s.age_s < 10 ? 2 : 0)} s`, "ago"]],
  ["Reconnected", (s) => [`${s.reconnects}×`]],
  ["Stalled", (s) => [`${s.stalls}×`]],
];

const $ = (id) => document.getElementById(id);
const viewer = nameViewer();
const tiles = [];
let colors = {};
let isSliding = false;

const total = (counts) => Object.values(counts).reduce((sum, n) => sum + n, 0);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const untilVisible = () => document.hidden
  ? new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }))
  : Promise.resolve();

// A reloaded tab keeps its name, so that it does not count as a second viewer.
function nameViewer() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  const name = sessionStorage.getItem("viewer") || Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  sessionStorage.setItem("viewer", name);
  return name;
}

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, change) {
  const options = change && {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Edge-MRCNN": "1" },
    body: JSON.stringify(change),
  };
  const response = await fetch(path, options);
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({ error: response.statusText }));
    throw new Refused(response.status, error);
  }
  return response;
}

function element(name, className, ...children) {
  const node = document.createElement(name);
  node.className = className;
  node.append(...children);
  return node;
}

// One source: its card, and the loop that fetches its pictures.
class Tile {
  constructor(index) {
    this.index = index;
    this.rates = [];
    this.node = $("source").content.firstElementChild.cloneNode(true);
    this.image = this.node.querySelector("img");
    this.button = this.node.querySelector(".pause");
    this.button.addEventListener("click", () => this.pause());
    for (const [name] of FACTS) {
      this.node.querySelector(".facts").append(element("div", "", element("dt", "", name), element("dd", "")));
    }
    $("sources").append(this.node);
    this.watch();
  }

  async pause() {
    this.button.disabled = true;
    try {
      await request("api/pause", { source: this.index, paused: this.source.state !== "paused" });
      await refresh();
    } catch (error) {
      alarm(error.message);
    } finally {
      this.button.disabled = false;
    }
  }

  async watch() {
    for (let number = 0; ; ) {
      await untilVisible();
      try {
        const query = `source=${this.index}&after=${number}&size=${this.size()}&viewer=${viewer}`;
        const response = await request(`picture.jpg?${query}`);
        this.note = "";
        if (response.status === 200) {
          number = Number(response.headers.get("X-Number"));
          await this.show(await response.blob(), JSON.parse(response.headers.get("X-Shown")));
        }
      } catch (error) {
        this.shown = null;
        this.note = error.status === 503 ? error.message : "";
        await sleep(RETRY_MS);
      }
    }
  }

  size() {
    return this.image.clientWidth * Math.min(devicePixelRatio, 2) > 800 ? "large" : "small";
  }

  // The numbers beside a picture are those of the picture, so that they agree with what is drawn in it.
  async show(blob, shown) {
    const url = URL.createObjectURL(blob);
    const before = this.image.src;
    this.image.src = url;
    await this.image.decode().catch(() => {});
    this.node.querySelector(".picture").style.aspectRatio = `${this.image.naturalWidth} / ${this.image.naturalHeight}`;
    if (before) URL.revokeObjectURL(before);
    this.shown = shown;
    showPictureFacts();
  }

  // Objects and counts of the shown picture; those of the newest frame if there is no picture.
  facts() {
    return { ...this.source, ...this.shown };
  }

  showRate() {
    this.node.querySelector(".fps").textContent = this.facts().fps.toFixed(1);
  }

  update(source) {
    this.source = source;
    const set = (selector, text) => { this.node.querySelector(selector).textContent = text; };
    const isPaused = source.state === "paused";
    const isWell = source.state === "live" || source.state === "ended";
    this.node.querySelector(".picture").dataset.state = source.state;
    this.image.alt = `Live picture of ${source.name}`;
    set(".name", source.name);
    set(".state", source.state);
    this.showRate();
    set(".veil", this.note || (isWell ? "" : source.error || WORDS[source.state] || source.state));
    set(".pause", isPaused ? "Resume" : "Pause");
    this.button.setAttribute("aria-pressed", isPaused);
    this.button.hidden = source.state === "ended" || source.state === "failed";
    this.node.querySelectorAll("dd").forEach((node, row) => {
      const [value, remark] = FACTS[row][1](source);
      const text = typeof value === "number" ? value.toLocaleString("en").replaceAll(",", "\u2009") : value;
      node.replaceChildren(text, remark ? element("small", "", remark) : "");
    });
    this.rates.push(source.fps);
    if (this.rates.length > HISTORY) this.rates.shift();
    this.drawRates();
  }

  drawRates() {
    const top = Math.max(1, ...this.rates) * 1.15;
    const points = this.rates.map((rate, i) => {
      const x = 120 - (this.rates.length - 1 - i) * (120 / (HISTORY - 1));
      return `${x.toFixed(1)},${(27 - 26 * (rate / top)).toFixed(1)}`;
    });
    const first = points[0].split(",")[0];
    this.node.querySelector(".line").setAttribute("d", `M${points.join("L")}`);
    this.node.querySelector(".area").setAttribute("d", `M${first},28L${points.join("L")}L120,28Z`);
  }
}

function alarm(text) {
  $("alarm").textContent = text;
  $("alarm").hidden = !text;
}

function showHead(state) {
  const { name, precision, target, input, classes } = state.model;
  $("model").textContent = name;
  $("about").textContent = `${precision} · ${input} · ${target} · ${classes.length} class${classes.length === 1 ? "" : "es"}`;
  document.title = `${state.ok ? "" : "⚠ "}${name} live`;
  showHealth(state);
  alarm(state.ok ? "" : state.why);
  $("version").textContent = `edge-mrcnn ${state.version}`;
  $("uptime").textContent = `up ${duration(state.uptime_s)}`;
  $("viewers").textContent = `${state.viewers} viewer${state.viewers === 1 ? "" : "s"}`;
}

function showHealth({ ok, sources }) {
  const away = sources.filter(({ state }) => ["lost", "stalled", "failed"].includes(state)).length;
  const isResting = sources.length && sources.every(({ state }) => state === "paused" || state === "ended");
  if (!ok) setHealth("failed", "not processing");
  else if (isResting) setHealth("paused", sources[0].state);
  else if (away) setHealth("stalled", `${away} of ${sources.length} offline`);
  else setHealth("live", "processing");
}

function setHealth(state, text) {
  $("health").dataset.state = state;
  $("health").textContent = text;
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const from = Math.max(0, parts.findIndex(([size]) => seconds >= size));
  return parts.slice(from, from + 2).map(([size, unit], i) =>
    `${Math.floor(i ? (seconds % parts[from][0]) / size : seconds / size)} ${unit}`).join(" ") || "0 s";
}

function showConf(value) {
  if (!isSliding) $("conf").value = value;
  $("conf-value").textContent = Number($("conf").value).toFixed(2);
}

// Pictures show tracked objects below the threshold; without this line, they would seem to contradict the slider.
function showKeptScore({ conf, keep_conf: kept }) {
  $("keep-conf").hidden = kept === undefined || kept >= conf;
  $("keep-conf").textContent = `Tracked objects stay in view down to ${Math.round(100 * kept)} %.`;
}

function showPictureFacts() {
  const known = tiles.filter((tile) => tile.source);
  known.forEach((tile) => tile.showRate());
  const sources = known.map((tile) => tile.facts());
  showObjects(sources);
  showCounts(sources);
}

function showObjects(sources) {
  const counts = {};
  for (const source of sources) {
    if (!HAS_VIEW.includes(source.state)) continue;
    for (const [name, count] of Object.entries(source.objects)) counts[name] = (counts[name] || 0) + count;
  }
  $("total").textContent = total(counts);
  const rows = Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([name, count]) => {
    const dot = element("i", "dot");
    dot.style.setProperty("--dot", colors[name]);
    return element("li", "", dot, element("span", "label", name), element("span", "value", String(count)));
  });
  $("objects").replaceChildren(...(rows.length ? rows : [element("li", "muted", "none")]));
}

// A group of rows per source; its name is written where there are several.
function showGroups(target, sources, describe) {
  const groups = sources.map((source) => [source.name, describe(source)]).filter(([, rows]) => rows.length);
  $(target).replaceChildren(...groups.flatMap(([name, rows]) => [
    ...(sources.length > 1 ? [element("p", "group", name)] : []),
    element("ul", `rows ${target}`, ...rows),
  ]));
  return groups.length > 0;
}

function showCounts(sources) {
  const row = (name, text) => element("li", "", element("span", "label", name), element("span", "value", text));
  const describe = ({ counts }) => [
    ...Object.entries(counts.lines).map(([name, c]) => row(name, `${total(c.in)} in, ${total(c.out)} out`)),
    ...Object.entries(counts.zones).map(([name, c]) => row(name, `${total(c.inside)} inside, ${total(c.entered)} in total`)),
  ];
  $("counts-card").hidden = !showGroups("counts", sources, describe);
}

function showStages(sources) {
  const staged = sources.map((source) => {
    const { end_to_end: delay, ...stages } = source.stages;
    return { ...source, delay, stages };
  });
  const longest = Math.max(1, ...staged.flatMap((s) => Object.values(s.stages).map((t) => t.p90)));
  const describe = ({ stages }) => Object.entries(stages).map(([name, { p50, p90 }]) => {
    const bars = [p90, p50].map((value) => {
      const bar = document.createElement("i");
      bar.style.width = `${Math.min(100, (100 * value) / longest)}%`;
      return bar;
    });
    const value = element("span", "value", `${p50.toFixed(1)} ms`, element("small", "", p90.toFixed(1)));
    return element("li", "", element("span", "label", name), value, element("div", "meter", ...bars));
  });
  showGroups("stages", staged, describe);
  const delays = staged.map((s) => s.delay?.p50).filter(Number.isFinite);
  $("delay").textContent = delays.length ? `${Math.max(...delays).toFixed(0)} ms` : "–";
}

function show(state) {
  colors = Object.fromEntries(state.model.classes.map((name, i) => [name, state.model.colors[i]]));
  $("conf").min = state.min_conf;
  showHead(state);
  showConf(state.conf);
  showKeptScore(state);
  while (tiles.length < state.sources.length) tiles.push(new Tile(tiles.length));
  state.sources.forEach((source, i) => tiles[i].update(source));
  showPictureFacts();
  showStages(state.sources);
  $("login").hidden = true;
  $("live").hidden = false;
}

async function refresh() {
  try {
    show(await (await request("api/state")).json());
  } catch (error) {
    if (error.status === 401) {
      $("live").hidden = true;
      $("login").hidden = false;
      setHealth("paused", "locked");
      return;
    }
    setHealth("lost", "no connection");
    alarm(error.status ? error.message : "No connection to the camera. Reconnecting.");
  }
}

async function slide() {
  isSliding = true;
  showConf();
  clearTimeout(slide.timer);
  slide.timer = setTimeout(async () => {
    try {
      await request("api/conf", { conf: Number($("conf").value) });
    } catch (error) {
      alarm(error.message);
    }
    isSliding = false;
  }, SLIDER_MS);
}

async function logIn(event) {
  event.preventDefault();
  try {
    await request("api/login", { token: $("token").value });
    $("token").value = $("login-error").textContent = "";
    await refresh();
  } catch (error) {
    $("login-error").textContent = error.message;
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function startTheme() {
  const preference = matchMedia("(prefers-color-scheme: dark)");
  const preferred = () => (preference.matches ? "dark" : "light");
  setTheme(localStorage.getItem("theme") || preferred());
  preference.addEventListener("change", () => setTheme(localStorage.getItem("theme") || preferred()));
  $("theme").addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", theme);
    setTheme(theme);
  });
}

startTheme();
$("conf").addEventListener("input", slide);
$("login").addEventListener("submit", logIn);
for (;;) {
  await untilVisible();
  await refresh();
  await sleep(STATE_MS);
}
