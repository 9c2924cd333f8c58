import DLCGraph
import DLCTensor

/// Says a graph of dlc in operators of ONNX. Values are names; nodes go to the innermost graph that is open.
final class GraphExporter {
  let opset: Int
  private(set) var lists: [[ONNXNode]] = [[]]
  private(set) var initializers: [String: ONNXTensor] = [:]
  private var constants: [Tensor: String] = [:]
  private var taken: Set<String> = []
  private var count = 0
  /// Where the sizes of named dimensions are found: an input and an axis of it.
  var dimensions: [String: (input: String, axis: Int)] = [:]
  private var sizes: [Size: String] = [:]
  /// Nodes that compute sizes, which come first.
  private(set) var preamble: [ONNXNode] = []
  private var opsets: [String: Int] { ["": opset] }

  init(opset: Int, reserved: Set<String>) {
    self.opset = opset
    taken = reserved
  }

  // MARK: Names and nodes

  func fresh() -> String {
    repeat { count += 1 } while taken.contains("v\(count)")
    return "v\(count)"
  }

  private func node(
    _ type: String, _ inputs: [String], _ outputs: [String], _ attributes: [String: ONNXAttribute]
  )
    -> ONNXNode
  {
    ONNXNode(
      name: "\(type)_\(outputs.first ?? "")", domain: "", type: type, overload: "", inputs: inputs,
      outputs: outputs, attributes: attributes, opsets: opsets)
  }

  func emit(
    _ type: String, _ inputs: [String], _ attributes: [String: ONNXAttribute] = [:], outputs: Int
  ) -> [String] {
    let names = (0..<outputs).map { _ in fresh() }
    lists[lists.count - 1].append(node(type, inputs, names, attributes))
    return names
  }

  func emit(_ type: String, _ inputs: [String], _ attributes: [String: ONNXAttribute] = [:])
    -> String
  {
    emit(type, inputs, attributes, outputs: 1)[0]
  }

  /// A value under a name that is asked for.
  func alias(_ value: String, as name: String) {
    lists[lists.count - 1].append(node("Identity", [value], [name], [:]))
  }

  func store(_ tensor: Tensor, as name: String) {
    initializers[name] = ONNXTensor(
      name: name, elementType: ElementType(tensor.dataType), value: tensor)
  }

  func constant(_ tensor: Tensor) -> String {
    if tensor.count <= 64, let known = constants[tensor] { return known }
    let name = fresh()
    store(tensor, as: name)
    if tensor.count <= 64 { constants[tensor] = name }
    return name
  }

  func scalar(_ number: Double, _ type: DataType) -> String {
    constant(Tensor(splat: number, type, []))
  }

  func integers(_ list: [Int], _ type: DataType = .int64) -> String {
    constant(Tensor(type, [list.count], truncating: list.map(Int64.init)))
  }

  // MARK: Sizes

  /// A size as an int64 vector of one element.
  func size(_ size: Size) throws(DLCError) -> String {
    if let number = size.constant { return integers([number]) }
    if let known = sizes[size] { return known }
    // Sizes hold everywhere, so that they are computed before everything else.
    let open = lists
    lists = [preamble]
    defer { lists = open }
    let name = try computed(size)
    preamble = lists[0]
    sizes[size] = name
    return name
  }

  private func computed(_ size: Size) throws(DLCError) -> String {
    if let name = size.name {
      guard let place = dimensions[name] else {
        throw DLCError(.unsupported, "no input has an axis of size '\(name)'")
      }
      return emit(
        "Gather", [emit("Shape", [place.input]), integers([place.axis])], ["axis": .integer(0)])
    }
    var sum: String?
    for term in size.terms {
      var product = integers([term.coefficient])
      for factor in term.factors {
        let value: String
        switch factor {
        case .name(let name): value = try self.computed(.named(name))
        case .quotient(let a, let b):
          value = emit("Div", [try self.computed(a), try self.computed(b)])
        case .invalid(let why): throw DLCError(.dimension, why)
        }
        product = emit("Mul", [product, value])
      }
      sum = sum.map { emit("Add", [$0, product]) } ?? product
    }
    return sum ?? integers([0])
  }

  /// Sizes as an int64 vector.
  func shape(_ sizes: [Size]) throws(DLCError) -> String {
    let numbers = sizes.compactMap(\.constant)
    if numbers.count == sizes.count { return integers(numbers) }
    var parts: [String] = []
    for entry in sizes { parts.append(try size(entry)) }
    return parts.count == 1 ? parts[0] : emit("Concat", parts, ["axis": .integer(0)])
  }

  func number(_ size: Size, _ what: String) throws(DLCError) -> Int {
    guard let number = size.constant else {
      throw DLCError(
        .unsupported, "\(what) of size '\(size)' has no form in ONNX",
        remedy: "bind the size with --dim")
    }
    return number
  }

  // MARK: Common forms

  func cast(_ value: String, _ from: DataType, _ to: DataType) -> String {
    from == to ? value : emit("Cast", [value], ["to": .integer(Int(ElementType(to).rawValue))])
  }

  func reshape(_ value: String, _ shape: [Size]) throws(DLCError) -> String {
    emit("Reshape", [value, try self.shape(shape)], ["allowzero": .integer(1)])
  }

  func transpose(_ value: String, _ order: [Int]) -> String {
    order == Array(order.indices) ? value : emit("Transpose", [value], ["perm": .integers(order)])
  }

  /// The type that arithmetic on a type is written in: kernels are common for few.
  static func wide(_ type: DataType) -> DataType {
    switch type {
    case .float32, .float64, .int32, .int64: type
    case .float16, .bfloat16: .float32
    case .bool, .int8, .int16, .uint8, .uint16: .int32
    case .uint32, .uint64: .int64
    }
  }

  /// A value of a wide type with the range of the narrow one.
  /// - Parameter wide: nil for the type that arithmetic on the narrow one is written in.
  func narrow(_ value: String, _ type: DataType, from wide: DataType? = nil) -> String {
    let source = wide ?? Self.wide(type)
    return type == .uint32
      ? cast(emit("BitwiseAnd", [value, scalar(4_294_967_295, .int64)]), .int64, type)
      : cast(value, source, type)
  }

  /// What an element that is not there counts as, as a scalar.
  func identity(_ combiner: Combiner, _ type: DataType) -> String {
    constant(Tensor(combiner.identity(type), type))
  }

  func widened(_ value: String, _ type: DataType) -> String { cast(value, type, Self.wide(type)) }

  // MARK: Graphs

  /// Adds the nodes of a graph; gives its results and updates.
  func add(_ graph: Graph, _ arguments: [String]) throws(DLCError) -> (
    results: [String], updates: [String]
  ) {
    var names: [ValueID: String] = [:]
    for (value, name) in zip(graph.argumentValues, arguments) { names[value] = name }
    let composites = Composites(graph)
    for (index, node) in graph.nodes.enumerated() {
      if composites.isInside(index) { continue }
      do throws(DLCError) {
        let composite = try composites.add(index, self, names)
        let results =
          if let composite {
            composite
          } else {
            try NodeExporter(
              exporter: self, node: node, operands: node.operands.map { names[$0]! },
              types: node.operands.map { graph.type($0) },
              results: node.results.map { graph.type($0) }
            ).add()
          }
        for (value, name) in zip(node.results, results) { names[value] = name }
      } catch {
        throw error.within(
          "\(node.operation.mnemonic)\(node.name.isEmpty ? "" : " of '\(node.name)'")")
      }
    }
    return (graph.results.map { names[$0.value]! }, graph.updates.map { names[$0.value]! })
  }

  /// A graph of its own: what `body` adds, with results of the given types.
  func graph(
    _ name: String, inputs: [(String, TensorType)],
    _ body: () throws(DLCError) -> [(String, TensorType)]
  ) throws(DLCError) -> ONNXGraph {
    lists.append([])
    var outputs: [ONNXValueInfo] = []
    do throws(DLCError) {
      for (value, type) in try body() {
        let result = fresh()
        alias(value, as: result)
        outputs.append(Self.info(result, type))
      }
    } catch {
      lists.removeLast()
      throw error
    }
    return ONNXGraph(
      name: name, nodes: lists.removeLast(), inputs: inputs.map { Self.info($0.0, $0.1) },
      outputs: outputs, initializers: [:])
  }

  static func info(_ name: String, _ type: TensorType) -> ONNXValueInfo {
    ONNXValueInfo(
      name: name, elementType: ElementType(type.dataType),
      shape: type.shape.map { size in
        size.constant.map { .size($0) } ?? size.name.map { .name($0) } ?? .open
      })
  }
}
