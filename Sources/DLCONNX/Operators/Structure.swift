import DLCGraph
import DLCTensor

/// Constants, shapes and conversions.
enum StructureOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("Constant", inputs: 0, constant),
    OperatorMapping("Identity", inputs: 1) { c throws(ImportStop) in
      c.isSequence(0) ? SequenceOperators.give(c, try c.sequence(0)) : [try c.operand(0)]
    },
    OperatorMapping("Shape", inputs: 1, shape),
    OperatorMapping("Size", inputs: 1) { c throws(ImportStop) in
      let count = try c.operand(0).shape.reduce(Size(1)) { $0 * $1 }
      return [c.g.dimension(count, .int64)]
    },
    OperatorMapping("Cast", inputs: 1, cast),
    OperatorMapping("Cast", since: 6, inputs: 1) { c throws(ImportStop) in
      guard let type = try c.elementType("to") else { throw c.fail("attribute 'to' is missing") }
      return [c.g.convert(try c.operand(0), type)]
    },
    OperatorMapping("CastLike", inputs: 2) { c throws(ImportStop) in
      [c.g.convert(try c.operand(0), try c.operand(1).dataType)]
    },
    OperatorMapping("ConstantOfShape", inputs: 1, statics: ["input"], constantOfShape),
    OperatorMapping("ConstantFill", inputs: 1, statics: ["input"], constantFill),
    OperatorMapping("EyeLike", inputs: 1, eyeLike),
    OperatorMapping("Range", inputs: 3, statics: ["start", "limit", "delta"], range),
  ]

  private static func constant(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let name = c.node.outputs.first ?? c.node.name
    let dense = try c.tensor("value")
    let sparse = try c.tensor("sparse_value")
    if let tensor = dense ?? sparse {
      return [try c.importer.stored(tensor, name)]
    }
    if let v = try c.real("value_float") { return [c.scalar(v, .float32)] }
    if let v = try c.wideInteger("value_int") { return [c.constant([], [v])] }
    if let v = try c.reals("value_floats") { return [c.constant(.float32, [v.count], v)] }
    if let v = try c.wideIntegers("value_ints") { return [c.constant([v.count], v)] }
    throw c.unsupported("a constant of strings or without a value")
  }

  private static func shape(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let shape = try c.operand(0).shape
    func bound(_ position: Int) -> Int {
      min(max(position < 0 ? position + shape.count : position, 0), shape.count)
    }
    let start = bound(try c.integer("start", 0))
    let end = bound(try c.integer("end", shape.count))
    return [c.shapeValue(start < end ? Array(shape[start..<end]) : [])]
  }

  /// Before version 6 the type is said by its name.
  private static func cast(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let names: [String: DataType] = [
      "FLOAT": .float32, "DOUBLE": .float64, "FLOAT16": .float16, "INT8": .int8, "INT16": .int16,
      "INT32": .int32, "INT64": .int64, "UINT8": .uint8, "UINT16": .uint16, "UINT32": .uint32,
      "UINT64": .uint64, "BOOL": .bool,
    ]
    guard let name = try c.text("to"), let type = names[name] else {
      throw c.fail("attribute 'to' names no element type")
    }
    return [c.g.convert(try c.operand(0), type)]
  }

  private static func constantOfShape(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let shape = try c.sizes(0)
    var fill = c.scalar(0, .float32)
    if let tensor = try c.tensor("value") {
      guard let value = tensor.value, value.count == 1 else {
        throw c.fail("attribute 'value' is not one number")
      }
      fill = c.g.reshape(c.g.constant(value), [])
    }
    return [c.g.broadcast(fill, to: shape)]
  }

  /// An operator of early versions that some exporters still write.
  private static func constantFill(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let shape: [Size]
    if let sizes = try c.integers("shape") {
      shape = sizes.map { Size($0) }
    } else {
      shape = try c.flag("input_as_shape") ? try c.sizes(0) : try c.operand(0).shape
    }
    let type = try c.elementType("dtype") ?? .float32
    return [c.g.broadcast(c.scalar(try c.real("value", 0), type), to: shape)]
  }

  private static func eyeLike(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    guard x.rank == 2 else { throw c.fail("the input is \(x.type), not a matrix") }
    let type = try c.elementType("dtype") ?? x.dataType
    let (row, column) = (
      c.g.iota(.int64, x.shape, axis: 0), c.g.iota(.int64, x.shape, axis: 1)
    )
    return [c.g.convert(column - row .== Double(try c.integer("k", 0)), type)]
  }

  private static func range(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let type = try c.operand(0).dataType
    let g = c.g
    let count: Size
    if type.isFloat {
      let numbers = [try c.reals(0), try c.reals(1), try c.reals(2)].compactMap(\.first)
      guard numbers.count == 3 else {
        throw c.fail("start, limit and step are not one number each")
      }
      let (start, limit, delta) = (numbers[0], numbers[1], numbers[2])
      let steps = ((limit - start) / delta).rounded(.up)
      guard steps.isFinite, steps < 1e12 else { throw c.fail("the range has no end") }
      count = Size(max(0, Int(steps)))
    } else {
      let ends = [try c.sizes(0), try c.sizes(1)].compactMap(\.first)
      guard ends.count == 2, let delta = try c.wideIntegers(2).first, delta.magnitude < 1 << 62
      else {
        throw c.fail("start, limit and step are not one number each")
      }
      let (start, limit) = (ends[0], ends[1])
      guard delta != 0 else { throw c.fail("the step is 0") }
      let span = delta > 0 ? limit - start : start - limit
      let steps = (span + Size(abs(delta) - 1)) / Size(abs(delta))
      count = steps.constant.map { Size(max($0, 0)) } ?? steps
    }
    let (start, delta) = (g.reshape(try c.operand(0), []), g.reshape(try c.operand(2), []))
    // Counted in a type that holds every position.
    let wide: DataType = type.isFloat ? .float64 : .int64
    let steps = g.iota(wide, [count], axis: 0)
    return [g.convert(g.convert(start, wide) + steps * g.convert(delta, wide), type)]
  }
}
