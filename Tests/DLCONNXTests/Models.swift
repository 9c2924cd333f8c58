import DLCTensor

@testable import DLCONNX

/// Models that tests put together.
func model(
  opset: Int = 21, _ inputs: [(String, ElementType, [ONNXValueInfo.Dimension])],
  _ outputs: [String],
  initializers: [String: Tensor] = [:], _ nodes: [ONNXNode]
) -> ONNXModel {
  ONNXModel(
    path: "test.onnx", producer: "", opsets: ["": opset],
    graph: graph(inputs, outputs, initializers: initializers, nodes.map { $0.at(opset) }),
    functions: [:])
}

func graph(
  _ inputs: [(String, ElementType, [ONNXValueInfo.Dimension])], _ outputs: [String],
  initializers: [String: Tensor] = [:], _ nodes: [ONNXNode]
) -> ONNXGraph {
  ONNXGraph(
    name: "g", nodes: nodes,
    inputs: inputs.map { ONNXValueInfo(name: $0.0, elementType: $0.1, shape: $0.2) },
    outputs: outputs.map { ONNXValueInfo(name: $0, elementType: .float32) },
    initializers: Dictionary(
      uniqueKeysWithValues: initializers.map {
        (
          $0.key,
          ONNXTensor(name: $0.key, elementType: ElementType($0.value.dataType), value: $0.value)
        )
      }))
}

func node(
  _ type: String, _ inputs: [String], _ outputs: [String], domain: String = "",
  _ attributes: [String: ONNXAttribute] = [:]
) -> ONNXNode {
  ONNXNode(
    name: outputs.first ?? type, domain: domain, type: type, overload: "", inputs: inputs,
    outputs: outputs, attributes: attributes, opsets: ["": 21])
}

extension ONNXNode {
  /// The node, and those in its graphs, under a version of the operator set.
  func at(_ opset: Int) -> ONNXNode {
    var copy = self
    copy.opsets = domain.isEmpty ? ["": opset] : ["": opset, domain: 1]
    copy.attributes = attributes.mapValues { attribute in
      guard case .graph(var graph) = attribute else { return attribute }
      graph.nodes = graph.nodes.map { $0.at(opset) }
      return .graph(graph)
    }
    return copy
  }
}

func text(_ value: String) -> ONNXAttribute { .text(Array(value.utf8)) }

func floats(_ shape: [Int], _ values: [Double]) -> Tensor {
  Tensor(.float32, shape, rounding: values)
}

func integers(_ shape: [Int], _ values: [Int64], _ type: DataType = .int64) -> Tensor {
  Tensor(type, shape, truncating: values)
}

/// The results of a model, by name; those of the interpreter must be the same.
func run(_ model: ONNXModel, _ inputs: [String: Tensor]) throws -> [String: Tensor] {
  let session = try ONNXSession(model, cache: nil)
  let results = try session.run(inputs)
  return Dictionary(uniqueKeysWithValues: results.map { ($0.name, $0.value) })
}
