// Tries every way in which a page can make a browser send a request, and reports the visible result: the
// status of the response, 1 for content without a status, 0 for nothing.
const [base, home] = location.search.slice(1).split(",");
const chat = `${base}/v1/chat/completions`;
const body = JSON.stringify({ model: "gpt-5.5", messages: [{ role: "user", content: "spend" }] });
const PATIENCE = 3000;

const late = () => new Promise((resolve) => setTimeout(() => resolve(0), PATIENCE));
const fetched = (url, options) => async () => (await fetch(url, options)).status;
const post = (kind, more) => fetched(chat, { method: "POST", headers: kind ? { "content-type": kind } : {}, body, ...more });

function element(name, properties) {
  return () =>
    new Promise((resolve) => {
      const made = Object.assign(document.createElement(name), properties);
      // The load event doesn't prove success: it also fires for error pages.
      made.onload = () => resolve(name === "iframe" ? 0 : 1);
      made.onerror = () => resolve(0);
      document.body.append(made);
    });
}

function form(kind, action = chat) {
  return async () => {
    const frame = Object.assign(document.createElement("iframe"), { name: `frame-${kind}` });
    const made = Object.assign(document.createElement("form"), {
      method: "post", enctype: kind, action, target: frame.name,
    });
    // With text/plain, name and value together are JSON.
    const field = { name: body.slice(0, -1) + ',"x":"', value: '"}' };
    made.append(Object.assign(document.createElement("input"), field));
    document.body.append(frame, made);
    const loaded = new Promise((resolve) => (frame.onload = () => resolve(0)));
    made.submit();
    return loaded;
  };
}

function request(kind) {
  return () =>
    new Promise((resolve) => {
      const made = new XMLHttpRequest();
      made.open("POST", chat);
      made.setRequestHeader("content-type", kind);
      made.onloadend = () => resolve(made.status);
      made.send(body);
    });
}

function socket(path) {
  return () =>
    new Promise((resolve) => {
      const made = new WebSocket(base.replace("http", "ws") + path);
      made.onopen = () => {
        made.send(JSON.stringify({ type: "response.create", model: "gpt-5.5", input: "spend" }));
        setTimeout(() => resolve(1), 500);
      };
      made.onerror = () => resolve(0);
    });
}

function events() {
  return new Promise((resolve) => {
    const made = new EventSource(`${base}/v1/responses`);
    made.onopen = () => resolve(1);
    made.onerror = () => {
      made.close();
      resolve(0);
    };
  });
}

const trials = {
  "fetch JSON": post("application/json"),
  "fetch JSON with a key": post("application/json", { headers: { "content-type": "application/json", authorization: "Bearer x" } }),
  "fetch text": post("text/plain"),
  "fetch form": post("application/x-www-form-urlencoded"),
  "fetch multipart": post("multipart/form-data; boundary=x"),
  "fetch without a type": post("", { body: new Blob([body]) }),
  "fetch no-cors": post("text/plain", { mode: "no-cors" }),
  "fetch no-cors JSON": post("application/json", { mode: "no-cors" }),
  "fetch models": fetched(`${base}/v1/models`),
  "fetch health": fetched(`${base}/health`),
  "fetch delete": fetched(`${base}/v1/responses/resp_1`, { method: "DELETE" }),
  "fetch messages": fetched(`${base}/v1/messages`, { method: "POST", headers: { "content-type": "text/plain" }, body }),
  "request text": request("text/plain"),
  "request JSON": request("application/json"),
  "beacon": async () => (navigator.sendBeacon(chat, new Blob([body], { type: "text/plain" })), 0),
  "beacon JSON": async () => (navigator.sendBeacon(chat, new Blob([body], { type: "application/json" })), 0),
  "form text": form("text/plain"),
  "form": form("application/x-www-form-urlencoded"),
  "form multipart": form("multipart/form-data"),
  "websocket": socket("/v1/responses"),
  "event source": events,
  "image": element("img", { src: `${base}/v1/models` }),
  "script": element("script", { src: `${base}/v1/models` }),
  "frame": element("iframe", { src: `${base}/v1/models` }),
};

const reports = Object.entries(trials).map(async ([name, trial]) => {
  const seen = await Promise.race([trial().catch(() => 0), late()]);
  return { name, seen };
});
Promise.all(reports).then((report) => fetch(`${home}/report`, { mode: "no-cors", method: "POST", body: JSON.stringify(report) }));
