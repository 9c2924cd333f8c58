import DLCTensor

@testable import DLCONNX

/// Models of one node, run by the interpreter.
enum OneNode {
  /// The results of an operator; nil stands for an operand that is left out.
  static func run(
    _ type: String, _ inputs: [Tensor?], _ attributes: [String: ONNXAttribute] = [:],
    domain: String = "", opset: Int, outputs: Int = 1
  ) throws(DLCError) -> [Tensor] {
    let names = inputs.enumerated().map { $0.element == nil ? "" : "x\($0.offset)" }
    let results = (0..<outputs).map { "y\($0)" }
    let node = ONNXNode(
      name: "n", domain: domain, type: type, overload: "", inputs: names, outputs: results,
      attributes: attributes, opsets: domain.isEmpty ? ["": opset] : ["": 21, domain: opset])
    var arrays: [String: Tensor] = [:]
    for (name, tensor) in zip(names, inputs) { arrays[name] = tensor }
    func info(_ name: String, _ tensor: Tensor?) -> ONNXValueInfo {
      ONNXValueInfo(
        name: name, elementType: ElementType(tensor?.dataType ?? .float32),
        shape: tensor?.shape.map { .size($0) })
    }
    let graph = ONNXGraph(
      name: "g", nodes: [node], inputs: arrays.keys.sorted().map { info($0, arrays[$0]) },
      outputs: results.map { info($0, nil) }, initializers: [:])
    let model = ONNXModel(
      path: "test.onnx", producer: "", opsets: node.opsets, graph: graph, functions: [:])
    let session = try ONNXSession(model, cache: nil, isReference: true)
    return try session.run(arrays).map(\.value)
  }

  /// A float32 tensor.
  static func floats(_ shape: [Int], _ values: [Double]) -> Tensor {
    Tensor(.float32, shape, rounding: values)
  }

  static func integers(_ shape: [Int], _ values: [Int64], _ type: DataType = .int64) -> Tensor {
    Tensor(type, shape, truncating: values)
  }
}

/// Whether numbers agree: to float32's rounding of a short sum, or to the digits that are written.
func near(_ a: [Double], _ b: [Double], _ tolerance: Double = 1e-6) -> Bool {
  a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= tolerance * max(1, abs($1)) }
}

/// 1, 2, 3...
func counting(_ shape: Int...) -> Tensor {
  OneNode.floats(shape, (0..<shape.reduce(1, *)).map { Double($0 + 1) })
}
