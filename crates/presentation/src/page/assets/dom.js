// A tree of plain objects, and the least change that makes the document look like it. Elements stay
// the same elements, so that focus, scrolling and what was typed survive.

const SVG = "http://www.w3.org/2000/svg";

/** New elements that wait to be told that they are in the document. */
let fresh = [];

/** An element: `on…` properties are listeners, `key` names it among its siblings, `made` is called with
 *  the new element once it is in the document, `vars` are custom properties of its style. Empty children
 *  keep their place. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, key: props?.key, children: children.flat(Infinity).map(child) };
}

/** What is made anew only where one of `inputs` is another than before. */
export function memo(key, inputs, make) {
  return { tag: make.name, key, inputs, make };
}

/** Makes the children of `root` look like `children`. */
export function show(root, children) {
  const after = children.flat(Infinity).map(child);
  patchChildren(root, root.shown ?? [], after, false);
  root.shown = after;
  const told = fresh;
  fresh = [];
  for (const { props, dom } of told) props.made(dom);
}

function child(content) {
  if (content !== null && typeof content === "object") return content;
  return { tag: "#text", text: content === undefined || content === null || content === false ? "" : String(content) };
}

function create(node, svg) {
  if (node.tag === "#text") {
    node.dom = document.createTextNode(node.text);
  } else if (node.make) {
    node.tree = node.make(...node.inputs);
    node.dom = create(node.tree, svg);
  } else {
    const inside = svg || node.tag === "svg";
    node.dom = inside ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
    setProps(node.dom, {}, node.props);
    patchChildren(node.dom, [], node.children, inside);
    if (node.props.made) fresh.push(node);
  }
  return node.dom;
}

function update(old, node, svg) {
  node.dom = old.dom;
  if (node.tag === "#text") {
    if (old.text !== node.text) node.dom.data = node.text;
  } else if (node.make) {
    const same = node.inputs.every((input, index) => input === old.inputs[index]);
    node.tree = same ? old.tree : node.make(...node.inputs);
    if (!same) update(old.tree, node.tree, svg);
  } else {
    setProps(node.dom, old.props, node.props);
    patchChildren(node.dom, old.children, node.children, svg || node.tag === "svg");
  }
}

function patchChildren(parent, before, after, svg) {
  const named = new Map(before.filter(({ key }) => key !== undefined).map((node) => [node.key, node]));
  const kept = new Set();
  after.forEach((node, index) => {
    const old = node.key === undefined ? before[index] : named.get(node.key);
    if (old?.tag === node.tag && old.key === node.key && !kept.has(old)) {
      kept.add(old);
      update(old, node, svg);
    } else {
      create(node, svg);
    }
  });
  for (const old of before) if (!kept.has(old)) old.dom.remove();
  let next = parent.firstChild;
  for (const { dom } of after) {
    if (dom === next) next = next.nextSibling;
    else parent.insertBefore(dom, next);
  }
}

function setProps(dom, before, after) {
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const value = after[name];
    if (name === "key" || name === "made" || before[name] === value) continue;
    if (name.startsWith("on")) dom[name] = value ?? null;
    else if (name === "vars") for (const [key, part] of Object.entries(value ?? {})) dom.style.setProperty(key, part);
    // What was typed is kept by the element, not by the attribute.
    else if (name === "value") dom.value = value;
    else if (value === undefined || value === null || value === false) dom.removeAttribute(name);
    else dom.setAttribute(name, value === true ? "" : value);
  }
}
