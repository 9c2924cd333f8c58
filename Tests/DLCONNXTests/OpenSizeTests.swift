import DLCGraph
import DLCReference
import DLCTensor
import Testing

@testable import DLCONNX

/// Windows and resizing over axes whose sizes have a name: one graph, for several sizes.
struct OpenSizeTests {
  private func expect(
    _ type: String, _ operands: [String: Tensor], _ order: [String],
    _ attributes: [String: ONNXAttribute], _ wanted: [Int: [Double]],
    sourceLocation: Testing.SourceLocation = #_sourceLocation
  ) throws {
    let model = model(
      opset: 19, [("x", .float32, [.size(1), .size(1), .name("w")])], ["y"],
      initializers: operands, [node(type, order, ["y"], attributes)])
    let module = try model.module()
    for (size, numbers) in wanted {
      let (outputs, _) = try Interpreter().run(
        module, function: module.functions[0], inputs: ["x": counting(1, 1, size)],
        states: operands, dimensions: ["w": size])
      #expect(near(outputs[0].value.doubles, numbers, 1e-5), sourceLocation: sourceLocation)
    }
  }

  @Test func convolutionsPadEvenly() throws {
    try expect(
      "Conv", ["k": counting(1, 1, 3)], ["x", "k"],
      ["auto_pad": text("SAME_UPPER"), "strides": .integers([2])],
      [5: [8, 20, 14], 6: [14, 26, 17]])
  }

  @Test func averagesPadEvenly() throws {
    try expect(
      "AveragePool", [:], ["x"],
      [
        "auto_pad": text("SAME_LOWER"), "strides": .integers([2]), "kernel_shape": .integers([3]),
      ], [5: [1.5, 3, 4.5], 6: [1.5, 3, 5]])
  }

  @Test func resizingComputesCoordinates() throws {
    try expect(
      "Resize", ["s": floats([3], [1, 1, 1.5])], ["x", "", "s"], ["mode": text("linear")],
      [
        5: [1, 1.5, 2.16667, 2.83333, 3.5, 4.16667, 4.83333],
        6: [1, 1.5, 2.16667, 2.83333, 3.5, 4.16667, 4.83333, 5.5, 6],
      ])
  }

  /// A window of 3 does not fit into the size 1 that dimensions have first.
  @Test func defaultSizesFitTheWindows() throws {
    try expect(
      "MaxPool", [:], ["x"], ["kernel_shape": .integers([3])], [5: [3, 4, 5], 3: [3]])
  }

  /// Exporters name an axis of each input, also where two must be of one size.
  private static let products: [ONNXNode] = [
    node("MatMul", ["a", "b"], ["y"]),
    node("Gemm", ["a", "b"], ["y"]),
    node("Einsum", ["a", "b"], ["y"], ["equation": text("ij,jk->ik")]),
  ]

  @Test(arguments: products.indices) func namesOfOneSizeAreChecked(_ index: Int) throws {
    let model = model(
      [("a", .float32, [.size(1), .name("m")]), ("b", .float32, [.name("long"), .size(1)])], ["y"],
      [Self.products[index]])
    let module = try model.module()
    func run(_ m: Int, _ n: Int) throws -> [Double] {
      try Interpreter().run(
        module, function: module.functions[0],
        inputs: ["a": counting(1, m), "b": counting(n, 1)], states: [:],
        dimensions: ["m": m, "long": n]
      ).outputs[0].value.doubles
    }
    #expect(try run(3, 3) == [14])
    #expect(try run(2, 2) == [5])
    #expect(throws: DLCError.self) { try run(2, 3) }
  }

  @Test func keysAndValuesMayNameTheirLengths() throws {
    func shape(_ length: String) -> [ONNXValueInfo.Dimension] {
      [.size(1), .size(1), .name(length), .size(2)]
    }
    let model = model(
      opset: 23,
      [("q", .float32, shape("n")), ("k", .float32, shape("r")), ("v", .float32, shape("s"))],
      ["y"], [node("Attention", ["q", "k", "v"], ["y"])])
    let module = try model.module()
    func run(_ keys: Int, _ values: Int) throws -> [Double] {
      try Interpreter().run(
        module, function: module.functions[0],
        inputs: [
          "q": counting(1, 1, 1, 2),
          "k": OneNode.floats([1, 1, keys, 2], .init(repeating: 1, count: 2 * keys)),
          "v": counting(1, 1, values, 2),
        ], states: [:], dimensions: ["n": 1, "r": keys, "s": values]
      ).outputs[0].value.doubles
    }
    #expect(near(try run(3, 3), [3, 4]))
    #expect(throws: DLCError.self) { try run(3, 2) }
  }

  /// Axes have names, but what is inside holds for one size: the error says which.
  @Test func sizesThatAreFixedInsideAreSaid() throws {
    let fixed = model(
      [("x", .float32, [.name("n"), .size(3)])], ["y"],
      initializers: ["shape": integers([2], [6, 7])], [node("Reshape", ["x", "shape"], ["y"])])
    let session = try ONNXSession(fixed, cache: nil)
    #expect(try session.run(["x": floats([14, 3], [Double](repeating: 1, count: 42))]).count == 1)
    let error = #expect(throws: DLCError.self) {
      try session.run(["x": floats([5, 3], [Double](repeating: 1, count: 15))])
    }
    #expect(error?.remedy.contains("n=14") == true, "\(String(describing: error))")
    // Where no size that is tried fits, the dimensions are named.
    let never = model(
      [("x", .float32, [.name("n"), .size(3)])], ["y"],
      initializers: ["shape": integers([2], [2, 100_003])],
      [node("Reshape", ["x", "shape"], ["y"])])
    let refused = #expect(throws: DLCError.self) { try never.module() }
    #expect(refused?.remedy.contains("--dim n=N") == true)
  }
}
