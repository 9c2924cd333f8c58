package import DLCTensor

/// An ONNX model, read and checked, as the importer takes it.
package struct ONNXModel: Sendable {
  package var path: String
  package var producer: String
  /// The version of each operator set that is imported, by domain; the default domain is "".
  package var opsets: [String: Int]
  package var graph: ONNXGraph
  /// Model-local functions by domain, name and overload.
  package var functions: [FunctionKey: ONNXFunction]

  package struct FunctionKey: Hashable, Sendable {
    var domain: String
    var name: String
    var overload: String
  }
}

package struct ONNXFunction: Sendable {
  package var key: ONNXModel.FunctionKey
  package var inputs: [String]
  package var outputs: [String]
  package var nodes: [ONNXNode]
  package var opsets: [String: Int]
  /// Attributes that calls may leave out.
  package var defaults: [String: ONNXAttribute]
}

package struct ONNXGraph: Sendable {
  package var name: String
  package var nodes: [ONNXNode]
  package var inputs: [ONNXValueInfo]
  package var outputs: [ONNXValueInfo]
  package var initializers: [String: ONNXTensor]
}

/// A declared input or result.
package struct ONNXValueInfo: Hashable, Sendable {
  package var name: String
  package var elementType: ElementType
  /// nil where the rank is left open; a dimension is a number, a name, or open.
  package var shape: [Dimension]?
  /// What it is when it is no tensor: a sequence, a map...
  package var otherKind: String?

  package enum Dimension: Hashable, Sendable {
    case size(Int)
    case name(String)
    case open
  }
}

package struct ONNXNode: Sendable {
  package var name: String
  package var domain: String
  package var type: String
  package var overload: String
  /// The names of operands; an empty one is left out.
  package var inputs: [String]
  package var outputs: [String]
  package var attributes: [String: ONNXAttribute]
  /// The operator sets that it is read under: those of its function, else of the model.
  package var opsets: [String: Int]

  /// The operator's name, with its domain when that is not the default one.
  package var operatorName: String { domain.isEmpty ? type : "\(domain):\(type)" }
  /// What is said of one whose operator is not imported.
  var unsupported: String {
    "unsupported operator '\(operatorName)' (opset \(opsets[domain] ?? 0))"
  }
  /// What errors call it.
  package var title: String { "node '\(name)' (\(type))" }
}

package enum ONNXAttribute: Sendable {
  case float(Double)
  case integer(Int)
  case text([UInt8])
  case tensor(ONNXTensor)
  case graph(ONNXGraph)
  case floats([Double])
  case integers([Int])
  case texts([[UInt8]])
  case tensors([ONNXTensor])
  case graphs([ONNXGraph])
  /// The attribute of that name of the call of the function around.
  case reference(String)
  case unsupported(String)

  var kind: String {
    switch self {
    case .float: "a float"
    case .integer: "an int"
    case .text: "a string"
    case .tensor: "a tensor"
    case .graph: "a graph"
    case .floats: "floats"
    case .integers: "ints"
    case .texts: "strings"
    case .tensors: "tensors"
    case .graphs: "graphs"
    case .reference: "a reference"
    case .unsupported(let what): what
    }
  }
}

/// A stored tensor. Element types that graphs have not are unpacked to one that they have.
package struct ONNXTensor: Sendable {
  package var name: String
  package var elementType: ElementType
  /// nil for types that are only named, as strings.
  package var value: Tensor?
}
