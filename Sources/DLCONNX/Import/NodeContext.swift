import DLCGraph
import DLCTensor

/// What a mapping is given: a node with its operands as values of the graph that is being built.
final class NodeContext {
  let node: ONNXNode
  let importer: GraphImporter
  let scope: ImportScope
  private let operands: [Value?]
  /// Results of which only the first `count` along an axis are there, by position.
  var bounds: [Int: (axis: Int, count: Value)] = [:]

  init(_ node: ONNXNode, _ importer: GraphImporter, _ scope: ImportScope, _ operands: [Value?]) {
    self.node = node
    self.importer = importer
    self.scope = scope
    self.operands = operands
  }

  var g: FunctionBuilder { importer.g }
  /// The version of the operator set.
  var version: Int { node.opsets[node.domain] ?? 1 }

  // MARK: Operands

  var operandCount: Int { operands.count }

  func has(_ index: Int) -> Bool { index < operands.count && operands[index] != nil }

  func optional(_ index: Int) -> Value? { index < operands.count ? operands[index] : nil }

  func operand(_ index: Int) throws(ImportStop) -> Value {
    guard let value = optional(index) else {
      throw fail("input \(index) is \(isSequence(index) ? "a sequence" : "missing")")
    }
    return value
  }

  func isSequence(_ index: Int) -> Bool {
    index < node.inputs.count && scope.sequence(node.inputs[index]) != nil
  }

  /// The elements of an operand that is a sequence.
  func sequence(_ index: Int) throws(ImportStop) -> [Value] {
    guard index < node.inputs.count, let elements = scope.sequence(node.inputs[index]) else {
      throw fail("input \(index) is no sequence")
    }
    return elements
  }

  /// All operands that are not left out.
  var all: [Value] { operands.compactMap(\.self) }

  /// What is known of an operand.
  func known(_ index: Int) -> Known? { optional(index).flatMap { importer.knowledge.known($0) } }
  func known(_ value: Value) -> Known? { importer.knowledge.known(value) }

  /// The elements of an operand that must be known as sizes, which may depend on named dimensions.
  func sizes(_ index: Int) throws(ImportStop) -> [Size] {
    let value = try operand(index)
    guard let known = known(value) else {
      throw .needs(value, operand: node.inputs[index], of: node.title)
    }
    guard let sizes = known.sizes else {
      throw fail("input \(index) is \(value.type), not integers")
    }
    return sizes
  }

  /// The elements of an operand that must be known as numbers, whatever they are.
  func wideIntegers(_ index: Int) throws(ImportStop) -> [Int] { try number(try sizes(index)) }

  /// The elements of an operand that must be known as numbers: axes, amounts and counts.
  func integers(_ index: Int) throws(ImportStop) -> [Int] {
    let list = try wideIntegers(index)
    try requireNarrow(list, "input \(index)")
    return list
  }

  /// Throws for numbers beyond every size, with which no arithmetic could be done.
  private func requireNarrow(_ list: [Int], _ what: String) throws(ImportStop) {
    if let number = list.first(where: { $0.magnitude > 1 << 31 }) {
      throw fail("\(what) is \(number), which is beyond every size")
    }
  }

  func integers(orNil index: Int) throws(ImportStop) -> [Int]? {
    has(index) ? try integers(index) : nil
  }

  /// A size that must be a number.
  func number(_ size: Size) throws(ImportStop) -> Int {
    guard let number = size.constant else {
      throw fail("it depends on the size '\(size)'", remedy: "bind it with --dim")
    }
    return number
  }

  func number(_ sizes: [Size]) throws(ImportStop) -> [Int] {
    var result: [Int] = []
    for size in sizes { result.append(try number(size)) }
    return result
  }

  /// The one element of an operand that must be known.
  func integer(_ index: Int) throws(ImportStop) -> Int {
    let list = try integers(index)
    guard list.count == 1 else { throw fail("input \(index) has \(list.count) elements, not 1") }
    return list[0]
  }

  /// The elements of an operand that must be known, as real numbers.
  func reals(_ index: Int) throws(ImportStop) -> [Double] {
    let value = try operand(index)
    guard let known = known(value) else {
      throw .needs(value, operand: node.inputs[index], of: node.title)
    }
    guard case .array(let array) = known else { return try integers(index).map { Double($0) } }
    return array.type.isFloat ? array.reals : array.integers.map { Double($0) }
  }

  // MARK: Results

  /// Whether an output is asked for.
  func wants(_ index: Int) -> Bool { index < node.outputs.count && !node.outputs[index].isEmpty }

  // MARK: Attributes

  private func attribute<T>(
    _ name: String, _ kind: String, _ cast: (ONNXAttribute) -> T?
  ) throws(ImportStop) -> T? {
    guard let attribute = node.attributes[name] else { return nil }
    guard let value = cast(attribute) else {
      throw fail("attribute '\(name)' is \(attribute.kind), not \(kind)")
    }
    return value
  }

  /// An attribute, whatever number it is.
  func wideInteger(_ name: String) throws(ImportStop) -> Int? {
    try attribute(name, "an int") { if case .integer(let v) = $0 { v } else { nil } }
  }
  /// An axis, an amount or a count.
  func integer(_ name: String) throws(ImportStop) -> Int? {
    guard let value = try wideInteger(name) else { return nil }
    try requireNarrow([value], "attribute '\(name)'")
    return value
  }
  func integer(_ name: String, _ otherwise: Int) throws(ImportStop) -> Int {
    try integer(name) ?? otherwise
  }
  func flag(_ name: String, _ otherwise: Bool = false) throws(ImportStop) -> Bool {
    try integer(name).map { $0 != 0 } ?? otherwise
  }
  func real(_ name: String) throws(ImportStop) -> Double? {
    try attribute(name, "a float") {
      switch $0 {
      case .float(let v): v
      case .integer(let v): Double(v)
      default: nil
      }
    }
  }
  func real(_ name: String, _ otherwise: Double) throws(ImportStop) -> Double {
    try real(name) ?? otherwise
  }
  func text(_ name: String) throws(ImportStop) -> String? {
    try attribute(name, "a string") {
      if case .text(let v) = $0 { String(decoding: v, as: UTF8.self) } else { nil }
    }
  }
  func text(_ name: String, _ otherwise: String) throws(ImportStop) -> String {
    try text(name) ?? otherwise
  }
  func texts(_ name: String) throws(ImportStop) -> [String]? {
    try attribute(name, "strings") {
      if case .texts(let v) = $0 { v.map { String(decoding: $0, as: UTF8.self) } } else { nil }
    }
  }
  /// A list, whatever numbers are in it.
  func wideIntegers(_ name: String) throws(ImportStop) -> [Int]? {
    try attribute(name, "ints") {
      switch $0 {
      case .integers(let v): v
      case .floats(let v) where v.isEmpty: []
      default: nil
      }
    }
  }
  func integers(_ name: String) throws(ImportStop) -> [Int]? {
    guard let list = try wideIntegers(name) else { return nil }
    try requireNarrow(list, "attribute '\(name)'")
    return list
  }
  func reals(_ name: String) throws(ImportStop) -> [Double]? {
    try attribute(name, "floats") {
      switch $0 {
      case .floats(let v): v
      case .integers(let v) where v.isEmpty: []
      default: nil
      }
    }
  }
  func tensor(_ name: String) throws(ImportStop) -> ONNXTensor? {
    try attribute(name, "a tensor") { if case .tensor(let v) = $0 { v } else { nil } }
  }
  func graph(_ name: String) throws(ImportStop) -> ONNXGraph {
    guard
      let graph = try attribute(
        name, "a graph",
        {
          if case .graph(let v) = $0 { v } else { nil }
        })
    else { throw fail("attribute '\(name)' is missing") }
    return graph
  }

  /// The element type that an attribute names by number.
  func elementType(_ name: String) throws(ImportStop) -> DataType? {
    guard let number = try integer(name), number != 0 else { return nil }
    return try elementType(number)
  }

  func elementType(_ number: Int) throws(ImportStop) -> DataType {
    guard let type = Int32(exactly: number).flatMap(ElementType.init(rawValue:)) else {
      throw fail("element type \(number) is not known")
    }
    guard let dataType = type.dataType, type.isPlain else {
      throw fail("elements of type \(type.text) are not supported")
    }
    return dataType
  }

  // MARK: Axes

  /// An axis counted from the front.
  func axis(_ axis: Int, rank: Int) throws(ImportStop) -> Int {
    guard axis >= -rank, axis < rank else {
      throw fail("axis \(axis) is out of range for rank \(rank)")
    }
    return axis < 0 ? axis + rank : axis
  }

  /// Axes counted from the front, each once.
  func axes(_ axes: [Int], rank: Int) throws(ImportStop) -> [Int] {
    var result: [Int] = []
    for entry in axes {
      let axis = try axis(entry, rank: rank)
      guard !result.contains(axis) else { throw fail("axis \(axis) is there twice") }
      result.append(axis)
    }
    return result
  }

  // MARK: Mistakes

  func fail(_ message: String, remedy: String = "") -> ImportStop {
    .failed(DLCError(.graph, message, remedy: remedy))
  }

  func unsupported(_ what: String) -> ImportStop {
    .failed(
      DLCError(
        .unsupported, "unsupported operator '\(node.operatorName)' (opset \(version)): \(what)"))
  }

  // MARK: Helpers for many mappings

  /// An integer tensor of sizes, of one axis.
  func shapeValue(_ sizes: [Size], _ type: DataType = .int64) -> Value {
    let numbers = sizes.compactMap(\.constant)
    if numbers.count == sizes.count {
      return g.constant(Tensor(type, [numbers.count], truncating: numbers.map(Int64.init)))
    }
    return g.concatenate(sizes.map { g.reshape(g.dimension($0, type), [1]) }, axis: 0)
  }

  /// A scalar of a type; any number is rounded to it.
  func scalar(_ number: Double, _ type: DataType) -> Value {
    g.constant(Tensor(splat: number, type, []))
  }

  func constant(_ type: DataType, _ shape: [Int], _ values: [Double]) -> Value {
    g.constant(Tensor(type, shape, rounding: values))
  }

  func constant(_ shape: [Int], _ values: [Int], _ type: DataType = .int64) -> Value {
    g.constant(Tensor(type, shape, truncating: values.map(Int64.init)))
  }

  /// The values broadcast to one shape, by NumPy's rule.
  func broadcast(_ values: [Value]) throws(ImportStop) -> [Value] {
    let shape = try commonShape(values.map(\.shape))
    return values.map { value in
      g.broadcast(said(value, Array(shape.suffix(value.rank))), to: shape)
    }
  }

  /// A value whose named sizes are said in another way: they are the same once they are bound, or binding them fails, as a
  /// reshape of one axis at a time changes the number of elements then.
  func said(_ value: Value, _ wanted: [Size]) -> Value {
    var result = value
    for (axis, size) in wanted.enumerated()
    where value.shape[axis] != 1 && value.shape[axis] != size {
      var shape = result.shape
      shape[axis] = size
      result = g.reshape(result, shape)
    }
    return result
  }

  /// The size that stands for two that must be the same: a number, else the shorter expression; nil for two numbers
  /// that are not. Whether two that are said in different ways are the same is seen when they are bound (see `said`).
  func same(_ a: Size, _ b: Size) -> Size? {
    if a == b || b.constant == nil && a.constant != nil { return a }
    if b.constant != nil { return a.constant == nil ? b : nil }
    return "\(b)".count < "\(a)".count ? b : a
  }

  /// Values with the axes of a group, one of each value, said in one way; nil when they are of different numbers.
  func agreed(_ values: [Value], along axes: [Int]) -> [Value]? {
    var size = values[0].shape[axes[0]]
    for (value, axis) in zip(values, axes) {
      guard let common = same(size, value.shape[axis]) else { return nil }
      size = common
    }
    return zip(values, axes).map { value, axis in
      var shape = value.shape
      shape[axis] = size
      return said(value, shape)
    }
  }

  /// The shape that NumPy's rule gives. Of two named sizes the shorter expression stands for both.
  func commonShape(_ shapes: [[Size]]) throws(ImportStop) -> [Size] {
    let rank = shapes.map(\.count).max() ?? 0
    var result = [Size](repeating: 1, count: rank)
    for shape in shapes {
      for (axis, size) in zip(rank - shape.count..<rank, shape) where size != 1 {
        let known = result[axis]
        if known == 1 || known == size {
          result[axis] = size
        } else if known.constant != nil && size.constant != nil {
          throw fail(
            "shapes \(shapes.map { "\($0)" }.joined(separator: " and ")) do not broadcast together")
        } else if size.constant != nil
          || known.constant == nil && "\(size)".count < "\(known)".count
        {
          result[axis] = size
        }
      }
    }
    return result
  }

  /// Sizes of axes of length 1 put in where `axes` say, which count in the result.
  func unsqueezed(_ x: Value, _ axes: [Int]) -> Value {
    var shape = x.shape
    for axis in axes.sorted() { shape.insert(1, at: axis) }
    return g.reshape(x, shape)
  }

  /// The value with its sizes multiplied into two axes at `axis`.
  func flattened(_ x: Value, at axis: Int) -> Value {
    func product(_ sizes: some Sequence<Size>) -> Size { sizes.reduce(1) { $0 * $1 } }
    return g.reshape(x, [product(x.shape[..<axis]), product(x.shape[axis...])])
  }

  /// Integers with a size added to negative ones.
  func wrapped(_ indices: Value, _ size: Size) -> Value {
    guard indices.dataType.isSigned else { return indices }
    return g.select(
      indices < 0.0, indices + g.dimension(size, indices.dataType), indices)
  }
}
