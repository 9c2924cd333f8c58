import DLCGraph
import Testing

@testable import DLCONNX

/// Where the nodes of an imported graph say that they belong.
@Suite struct ScopeTests {
  @Test func nodesBelongToTheNodeThatTheyAreOf() throws {
    let body = graph(
      [], ["r"],
      [node("Tanh", ["h"], ["r"]).named("/c/If/then/Tanh")])
    let source = model(
      [("x", .float32, [.size(2)]), ("p", .bool, [])], ["y"],
      [
        node("Sigmoid", ["x"], ["h"]).named("/c/Sigmoid"),
        node("If", ["p"], ["y"], ["then_branch": .graph(body), "else_branch": .graph(body)])
          .named("/c/If"),
      ])
    let nodes = try source.module().functions[0].graph.nodes
    #expect(nodes.first?.name == "c/Sigmoid")
    #expect(nodes.first?.location == "Sigmoid '/c/Sigmoid'")
    let inner = nodes.compactMap(\.operation.flow).flatMap(\.arms).flatMap(\.graph.nodes)
    #expect(inner.map(\.name) == ["c/If/then/Tanh", "c/If/then/Tanh"])
  }
}

extension ONNXNode {
  fileprivate func named(_ name: String) -> ONNXNode {
    var copy = self
    copy.name = name
    return copy
  }
}
