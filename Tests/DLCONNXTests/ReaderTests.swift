import DLCTensor
import Testing

@testable import DLCONNX

@Suite struct ReaderTests {
  private func message(_ model: ONNXModel) -> String {
    do { _ = try ONNXSession(model, cache: nil) } catch { return "\(error)" }
    return ""
  }

  @Test func whatDoesNotFitTogetherIsNamed() {
    let x = [("x", ElementType.float32, [ONNXValueInfo.Dimension.size(2)])]
    #expect(
      message(model(x, ["y"], [node("Neg", ["z"], ["y"]), node("Neg", ["y"], ["z"])]))
        == "nodes depend on one another in a cycle [node 'y' (Neg)]")
    #expect(
      message(model(x, ["y"], [node("Neg", ["gone"], ["y"])]))
        == "value 'gone' is not defined by any node [node 'y' (Neg)]")
    #expect(
      message(model(x, ["y"], [node("Neg", ["x"], ["y"]), node("Abs", ["x"], ["y"])]))
        == "value 'y' is defined twice [node 'y' (Abs)]")
    #expect(
      message(model(x, ["y"], [node("Neg", ["x"], ["z"])]))
        == "output 'y' is not defined by any node")
  }

  @Test func nodesMayStandInAnyOrder() throws {
    let backward = model(
      [("x", .float32, [.size(2)])], ["y"], [node("Neg", ["z"], ["y"]), node("Exp", ["x"], ["z"])])
    #expect(try run(backward, ["x": floats([2], [0, 0])])["y"]!.doubles == [-1, -1])
  }

  @Test func unknownOperatorsAreNamedWithTheirOpset() throws {
    let strange = model([("x", .float32, [.size(2)])], ["y"], [node("Frobnicate", ["x"], ["y"])])
    let error = #expect(throws: DLCError.self) { try run(strange, ["x": floats([2], [0, 0])]) }
    #expect(error?.message == "unsupported operator 'Frobnicate' (opset 21) at node 'y'")
  }

  @Test func functionsOfTheModelAreExpanded() throws {
    let key = ONNXModel.FunctionKey(domain: "mine", name: "Scale", overload: "")
    var scaled = model(
      [("x", .float32, [.size(2)])], ["y"],
      [node("Scale", ["x"], ["y"], domain: "mine", ["by": .float(3)])])
    var inner = node("Constant", [], ["c"], ["value_float": .reference("by")])
    inner.opsets = ["": 21]
    scaled.functions[key] = ONNXFunction(
      key: key, inputs: ["a"], outputs: ["b"], nodes: [inner, node("Mul", ["a", "c"], ["b"])],
      opsets: ["": 21], defaults: [:])
    #expect(try run(scaled, ["x": floats([2], [1, 2])])["y"]!.doubles == [3, 6])
    scaled.functions[key]!.nodes.append(node("Scale", ["b"], ["d"], domain: "mine"))
    #expect(message(scaled).hasPrefix("function 'Scale' calls itself"))
  }

  /// Numbers of OCP's and of the older formats, by their definitions.
  @Test func narrowFloatsHaveTheirNumbers() {
    #expect(ElementType.float8e4m3fn.number(0x7e) == 448)
    #expect(ElementType.float8e4m3fn.number(0x01) == 0x1p-9)
    #expect(ElementType.float8e4m3fn.number(0x7f).isNaN)
    #expect(ElementType.float8e5m2.number(0x7b) == 57344)
    #expect(ElementType.float8e5m2.number(0xfc) == -.infinity)
    #expect(ElementType.float8e4m3fnuz.number(0x7f) == 240)
    #expect(ElementType.float8e5m2fnuz.number(0x80).isNaN)
    #expect(ElementType.float4e2m1.number(0x7) == 6)
    #expect(ElementType.float4e2m1.number(0x9) == -0.5)
  }

  /// A text is all of its bytes: one that would be cut at a zero byte names something else.
  @Test func textsHaveNoZeroBytes() throws {
    let x = ONNXValueInfo(name: "x", elementType: .float32, shape: [.size(2)])
    var y = x
    y.name = "y_z"
    let graph = ONNXGraph(
      name: "g", nodes: [node("Neg", ["x"], ["y_z"])], inputs: [x], outputs: [y], initializers: [:])
    var bytes = ModelWriter(external: nil).encode(graph, opset: 21, producer: "")
    _ = try bytes.withUnsafeBytes { try ONNXModel($0, path: "m.onnx") }
    for place in bytes.indices where bytes[place] == UInt8(ascii: "_") { bytes[place] = 0 }
    let error = #expect(throws: DLCError.self) {
      try bytes.withUnsafeBytes { try ONNXModel($0, path: "m.onnx") }
    }
    #expect(error?.message.contains("has a text with a zero byte") == true)
  }

  @Test func inputsBeyondThoseOfTheOperatorAreAnError() {
    for (type, most) in [("Relu", 1), ("Add", 2), ("If", 1), ("Identity", 1), ("Softmax", 1)] {
      let names = [String](repeating: "x", count: most + 1)
      let wide = model([("x", .float32, [.size(2)])], ["y"], [node(type, names, ["y"])])
      let error = #expect(throws: DLCError.self) { try run(wide, ["x": floats([2], [1, 2])]) }
      #expect(error?.message == "'\(type)' takes \(most) inputs, not \(most + 1)")
      #expect(error?.location.contains("node 'y' (\(type))") == true)
    }
    // Those that are left out do not count.
    let open = model([("x", .float32, [.size(2)])], ["y"], [node("Relu", ["x", ""], ["y"])])
    #expect(throws: Never.self) { try run(open, ["x": floats([2], [1, 2])]) }
  }

  @Test(arguments: [[0, -1], [0, 0], [0, 2], [0]]) func ordersHaveEachAxisOnce(_ order: [Int]) {
    let turned = model(
      [("x", .float32, [.size(2), .size(3)])], ["y"],
      [node("Transpose", ["x"], ["y"], ["perm": .integers(order)])])
    let error = #expect(throws: DLCError.self) {
      try run(turned, ["x": floats([2, 3], [1, 2, 3, 4, 5, 6])])
    }
    #expect(error?.message == "perm \(order) does not fit rank 2")
  }
}
