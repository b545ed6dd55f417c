// Answers as elements.  Every string of a request or an answer goes through a text node.
export function element(name, properties = {}, ...content) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...content);
  return made;
}

const weighted = (made, weight) => {
  made.style.setProperty("--w", Math.min(1, Math.abs(weight)).toFixed(3));
  return made;
};
const number = (value) => (typeof value === "number" ? value.toFixed(3).replace(/^-(0\.0+)$/, "$1") : "");
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

export function bars(caption, pairs, scale = 1, shown = number) {
  const body = pairs.map(([label, value]) => element("tr", { className: value < 0 ? "against" : "for" },
    Object.assign(element("th", {}, String(label)), { scope: "row" }),
    element("td", { className: "bar" }, weighted(element("i"), value / scale)),
    element("td", {}, shown(value))));
  return element("table", { className: "bars" }, element("caption", {}, caption), element("tbody", {}, ...body));
}

// Offsets count Unicode characters; JavaScript's strings count UTF-16 units.
export function marked(text, spans, label) {
  const characters = Array.from(text), made = element("p", { className: "text" });
  let last = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    if (span.start < last) continue;
    made.append(characters.slice(last, span.start).join(""));
    const note = label(span);
    const mark = element("mark", {}, characters.slice(span.start, span.end).join(""));
    if (note) mark.append(element("small", {}, note));
    if (typeof span.score === "number") mark.title = number(span.score);
    made.append(mark);
    last = span.end;
  }
  made.append(characters.slice(last).join(""));
  return made;
}

export function entities(text, found) {
  return marked(text, found, (span) => span.entity_group ?? span.entity ?? "");
}

export function heatMaps(explanation) {
  if (explanation.error) return [element("p", { className: "note" }, explanation.error)];
  const maps = [];
  for (const one of explanation.explanations ?? [explanation]) {
    for (const [part, end, prefix] of [["", "", ""], ["_answer_start", "_start", "start of "], ["_answer_end", "_end", "end of "]]) {
      if (one[`importances${part}`]) maps.push(heatMap(one, one[`importances${part}`], one[`delta${end}`], prefix));
    }
  }
  const legend = element("p", { className: "legend" },
    element("span", {}, element("i", { className: "key" }), "speaks for the target"),
    element("span", {}, element("i", { className: "key against" }), "speaks against it"));
  return [legend, ...maps];
}

function heatMap(one, importances, delta, prefix) {
  const strongest = Math.max(...importances.map(Math.abs)) || 1, text = element("p", { className: "text" });
  one.words.forEach((word, i) => {
    const begins = one.fields && (i === 0 || one.fields[i] !== one.fields[i - 1]);
    if (i && (begins || !one.offsets[i] || !one.offsets[i - 1] || one.offsets[i][0] > one.offsets[i - 1][1])) text.append(begins ? "\n" : " ");
    if (begins) text.append(element("span", { className: "field" }, one.fields[i]));
    const value = importances[i], side = value < 0 ? "against" : "for";
    text.append(weighted(element("span", { className: `word ${side}`, title: signed(value) }, word), value / strongest));
  });
  const order = importances.map((value, i) => [one.words[i], value]).filter(([, value]) => value);
  order.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const facts = [`predicted ${one.predicted_label} ${number(one.predicted_score)}`, one.score === one.predicted_score ? "" : `target's score ${number(one.score)}`,
    one.method.replaceAll("_", " "), `baseline ${one.baseline}`, `${one.n_steps} steps`, `delta ${number(delta)}`, one.deadline_reached ? "deadline reached" : ""];
  return element("div", { className: "map" }, element("h2", {}, `${prefix}${one.target}`),
    element("p", { className: "facts" }, facts.filter(Boolean).join(" · ")), text,
    bars("Strongest words", order.slice(0, 8), strongest, signed));
}
