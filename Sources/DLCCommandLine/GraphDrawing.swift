import DLCGraph
import DLCTensor

/// A function's graph as a drawing: boxes in layers, edges with types.
struct GraphDrawing {
  private struct Box {
    var label: String
    var detail: String
    var kind: String
    var sources: [Int]
    var layer = 0
    var column = 0
  }
  private let name: String
  private var boxes: [Box] = []

  init(_ function: Function) {
    name = function.name
    let graph = function.graph
    var boxOf: [ValueID: Int] = [:]
    for (argument, value) in zip(graph.arguments, graph.argumentValues) {
      boxOf[value] = boxes.count
      boxes.append(
        Box(
          label: argument.name, detail: "\(argument.type)",
          kind: argument.kind == .input ? "input" : "state", sources: []))
    }
    for node in graph.nodes {
      for value in node.results { boxOf[value] = boxes.count }
      boxes.append(
        Box(
          label: node.operation.mnemonic, detail: "\(graph.type(node.results[0]))",
          kind: "operation",
          sources: node.operands.map { boxOf[$0]! }))
    }
    for result in graph.results {
      boxes.append(
        Box(
          label: result.name, detail: "\(graph.type(result.value))", kind: "output",
          sources: [boxOf[result.value]!]))
    }
    for update in graph.updates {
      boxes.append(
        Box(
          label: "\(update.name)'", detail: "\(graph.type(update.value))", kind: "state",
          sources: [boxOf[update.value]!]))
    }
    var columns: [Int: Int] = [:]
    for index in boxes.indices {
      boxes[index].layer = boxes[index].sources.map { boxes[$0].layer + 1 }.max() ?? 0
      boxes[index].column = columns[boxes[index].layer, default: 0]
      columns[boxes[index].layer, default: 0] += 1
    }
  }

  var dot: String {
    var text =
      "digraph \(quote(name)) {\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n"
    let shapes = ["input": "ellipse", "state": "folder", "output": "ellipse", "operation": "box"]
    for (index, box) in boxes.enumerated() {
      text +=
        "  n\(index) [label=\(quote("\(box.label)\n\(box.detail)")), shape=\(shapes[box.kind]!)];\n"
      for source in box.sources { text += "  n\(source) -> n\(index);\n" }
    }
    return text + "}"
  }

  var svg: String {
    let (width, height, gapX, gapY) = (150, 38, 20, 30)
    let columns = (boxes.map(\.column).max() ?? 0) + 1
    let layers = (boxes.map(\.layer).max() ?? 0) + 1
    let total = columns * (width + gapX) + gapX
    var counts: [Int: Int] = [:]
    for box in boxes { counts[box.layer, default: 0] += 1 }
    func x(_ box: Box) -> Int {
      (total - counts[box.layer]! * (width + gapX) + gapX) / 2 + box.column * (width + gapX)
    }
    func y(_ box: Box) -> Int { gapY + box.layer * (height + gapY) }
    let colours = [
      "input": "#cfe8ff", "state": "#ffe9b8", "output": "#d3f2d0", "operation": "#f4f4f4",
    ]
    var text =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(total)\" height=\"\(layers * (height + gapY) + gapY)\" font-family=\"sans-serif\" font-size=\"11\">\n"
    for box in boxes {
      for source in box.sources.map({ boxes[$0] }) {
        text +=
          "<line x1=\"\(x(source) + width / 2)\" y1=\"\(y(source) + height)\" x2=\"\(x(box) + width / 2)\" y2=\"\(y(box))\" stroke=\"#999\"/>\n"
      }
    }
    for box in boxes {
      text +=
        "<rect x=\"\(x(box))\" y=\"\(y(box))\" width=\"\(width)\" height=\"\(height)\" rx=\"5\" fill=\"\(colours[box.kind]!)\" stroke=\"#666\"/>\n"
        + "<text x=\"\(x(box) + width / 2)\" y=\"\(y(box) + 16)\" text-anchor=\"middle\">\(markup(String(box.label.prefix(24))))</text>\n"
        + "<text x=\"\(x(box) + width / 2)\" y=\"\(y(box) + 30)\" text-anchor=\"middle\" fill=\"#555\" font-size=\"9\">\(markup(String(box.detail.prefix(32))))</text>\n"
    }
    return text + "</svg>"
  }
}
