package import DLCGraph
package import DLCTensor

/// How one operator of ONNX is said in operations of dlc, from the version of its domain on in which it got that
/// meaning.
package struct OperatorMapping: Sendable {
  package var name: String
  /// "" for the standard's own.
  package var domain: String
  /// The first version that it holds for; it ends where the next entry of that name begins.
  package var since: Int
  /// How many operands there may be; nil for any number.
  package var inputs: Int?
  /// Operands that must be known when the graph is built.
  package var statics: [String]
  /// Adds it to the graph; gives a value per output, nil for one that is never asked for.
  let build: @Sendable (NodeContext) throws(ImportStop) -> [Value?]

  init(
    _ name: String, domain: String = "", since: Int = 1, inputs: Int?, statics: [String] = [],
    _ build: @escaping @Sendable (NodeContext) throws(ImportStop) -> [Value?]
  ) {
    self.name = name
    self.domain = domain
    self.since = since
    self.inputs = inputs
    self.statics = statics
    self.build = build
  }
}

/// All operators that are imported.
package enum OperatorTable {
  package static let all: [OperatorMapping] = [
    StructureOperators.all,
    SequenceOperators.all,
    ControlOperators.all,
    ElementwiseOperators.all,
    MovementOperators.all,
    IndexingOperators.all,
    ReductionOperators.all,
    LinearOperators.all,
    SoftmaxOperators.all,
    NormalizationOperators.all,
    LossOperators.all,
    AttentionOperators.all,
    MicrosoftOperators.all,
    MicrosoftAttentionOperators.all,
    GroupQueryAttention.all,
    MicrosoftQuantizedOperators.all,
    ConvolutionOperators.all,
    PoolingOperators.all,
    ChannelNormalizationOperators.all,
    ResizeOperators.all,
    SamplingOperators.all,
    QuantizationOperators.all,
    RecurrentOperators.all,
    SignalOperators.all,
    DetectionOperators.all,
    TextOperators.all,
    TrainingOperators.all,
    RandomOperators.all,
  ].flatMap(\.self)

  private static let byName: [String: [OperatorMapping]] = Dictionary(grouping: all) {
    "\($0.domain):\($0.name)"
  }

  /// The newest mapping that is not newer than the imported version.
  static func mapping(_ node: ONNXNode) -> OperatorMapping? {
    let version = node.opsets[node.domain] ?? 1
    return byName["\(node.domain):\(node.type)"]?.filter { $0.since <= version }
      .max { $0.since < $1.since }
  }
}

extension ONNXModel {
  /// Adds the first node of each operator that has no mapping, those in graphs and functions that are used included.
  func collectUnsupported(in nodes: [ONNXNode], _ list: inout [ONNXNode]) {
    var seen = Set(list.map(\.operatorName))
    var called: Set<FunctionKey> = []
    var work = nodes.reversed() as [ONNXNode]
    while let node = work.popLast() {
      let key = FunctionKey(domain: node.domain, name: node.type, overload: node.overload)
      if let function = functions[key] {
        if called.insert(key).inserted { work += function.nodes.reversed() }
      } else if OperatorTable.mapping(node) == nil, seen.insert(node.operatorName).inserted {
        list.append(node)
      }
      for graph in node.graphs { work += graph.nodes.reversed() }
    }
  }
}

/// Why an import, or a stage of it, stops.
enum ImportStop: Error {
  case failed(DLCError)
  /// An operand must be known to build the node, and depends on the run.
  case needs(Value, operand: String, of: String)
  /// The node cannot be part of a graph with its neighbours: its body is run by the session.
  case hosted(String)
}

/// Turns what calls of dlc throw into a reason to stop.
func attempt<R>(_ body: () throws(DLCError) -> R) throws(ImportStop) -> R {
  do throws(DLCError) { return try body() } catch { throw .failed(error) }
}
