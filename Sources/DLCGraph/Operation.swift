package import DLCTensor

/// Every operator there is, with its attributes. Closed: a new operator is a new case.
package enum Operation: Hashable, Sendable {
  case constant(Constant)
  case dimension(DimensionSize)
  case iota(Iota)
  case randomBits(RandomBits)
  case unary(Unary)
  case binary(Binary)
  case compare(Compare)
  case select(Select)
  case clamp(Clamp)
  case convert(Convert)
  case reshape(Reshape)
  case transpose(Transpose)
  case broadcast(Broadcast)
  case slice(Slice)
  case pad(Pad)
  case concatenate(Concatenate)
  case reverse(Reverse)
  case reduce(Reduce)
  case argReduce(ArgReduce)
  case dotGeneral(DotGeneral)
  case convolution(Convolution)
  case reduceWindow(ReduceWindow)
  case gather(Gather)
  case scatter(Scatter)
  case dynamicSlice(DynamicSlice)
  case dynamicUpdate(DynamicUpdateSlice)
  case cumulative(Cumulative)
  case argWindow(ArgWindow)
  case sort(Sort)
  case cholesky(Cholesky)
  case triangularSolve(TriangularSolve)
  case lu(LU)
  case cond(Cond)
  case whileLoop(While)
  case scan(Scan)
  case call(Call)

  package var definition: any Operator {
    switch self {
    case .constant(let o): o
    case .dimension(let o): o
    case .iota(let o): o
    case .randomBits(let o): o
    case .unary(let o): o
    case .binary(let o): o
    case .compare(let o): o
    case .select(let o): o
    case .clamp(let o): o
    case .convert(let o): o
    case .reshape(let o): o
    case .transpose(let o): o
    case .broadcast(let o): o
    case .slice(let o): o
    case .pad(let o): o
    case .concatenate(let o): o
    case .reverse(let o): o
    case .reduce(let o): o
    case .argReduce(let o): o
    case .dotGeneral(let o): o
    case .convolution(let o): o
    case .reduceWindow(let o): o
    case .gather(let o): o
    case .scatter(let o): o
    case .dynamicSlice(let o): o
    case .dynamicUpdate(let o): o
    case .cumulative(let o): o
    case .argWindow(let o): o
    case .sort(let o): o
    case .cholesky(let o): o
    case .triangularSolve(let o): o
    case .lu(let o): o
    case .cond(let o): o
    case .whileLoop(let o): o
    case .scan(let o): o
    case .call(let o): o
    }
  }

  private typealias Decoder =
    @Sendable (String, inout AttributeReader) throws(DLCError) -> Operation

  private static func decoder<O: Operator>(_: O.Type, _ wrap: @escaping @Sendable (O) -> Operation)
    -> [(String, Decoder)]
  {
    O.mnemonics.map { mnemonic in
      (
        mnemonic,
        { (name: String, reader: inout AttributeReader) throws(DLCError) -> Operation in
          wrap(try O(mnemonic: name, &reader))
        }
      )
    }
  }

  private static let decoders: [String: Decoder] = Dictionary(
    uniqueKeysWithValues: [
      decoder(Constant.self) { .constant($0) }, decoder(DimensionSize.self) { .dimension($0) },
      decoder(Iota.self) { .iota($0) }, decoder(RandomBits.self) { .randomBits($0) },
      decoder(Unary.self) { .unary($0) }, decoder(Binary.self) { .binary($0) },
      decoder(Compare.self) { .compare($0) }, decoder(Select.self) { .select($0) },
      decoder(Clamp.self) { .clamp($0) }, decoder(Convert.self) { .convert($0) },
      decoder(Reshape.self) { .reshape($0) }, decoder(Transpose.self) { .transpose($0) },
      decoder(Broadcast.self) { .broadcast($0) }, decoder(Slice.self) { .slice($0) },
      decoder(Pad.self) { .pad($0) }, decoder(Concatenate.self) { .concatenate($0) },
      decoder(Reverse.self) { .reverse($0) }, decoder(Reduce.self) { .reduce($0) },
      decoder(ArgReduce.self) { .argReduce($0) }, decoder(DotGeneral.self) { .dotGeneral($0) },
      decoder(Convolution.self) { .convolution($0) },
      decoder(ReduceWindow.self) { .reduceWindow($0) },
      decoder(Gather.self) { .gather($0) },
      decoder(Scatter.self) { .scatter($0) },
      decoder(DynamicSlice.self) { .dynamicSlice($0) },
      decoder(DynamicUpdateSlice.self) { .dynamicUpdate($0) },
      decoder(Cumulative.self) { .cumulative($0) },
      decoder(ArgWindow.self) { .argWindow($0) },
      decoder(Sort.self) { .sort($0) },
      decoder(Cholesky.self) { .cholesky($0) },
      decoder(TriangularSolve.self) { .triangularSolve($0) },
      decoder(LU.self) { .lu($0) },
      decoder(Cond.self) { .cond($0) },
      decoder(While.self) { .whileLoop($0) },
      decoder(Scan.self) { .scan($0) },
      decoder(Call.self) { .call($0) },
    ].flatMap { $0 })

  /// The operator types, for tests that walk all of them.
  package static let operators: [any Operator.Type] = [
    Constant.self, DimensionSize.self, Iota.self, RandomBits.self, Unary.self, Binary.self,
    Compare.self, Select.self, Clamp.self, Convert.self, Reshape.self, Transpose.self,
    Broadcast.self, Slice.self, Pad.self, Concatenate.self, Reverse.self, Reduce.self,
    ArgReduce.self, DotGeneral.self, Convolution.self, ReduceWindow.self,
    Gather.self, Scatter.self, DynamicSlice.self, DynamicUpdateSlice.self, Cumulative.self,
    ArgWindow.self, Sort.self, Cholesky.self, TriangularSolve.self, LU.self, Cond.self, While.self,
    Scan.self, Call.self,
  ]

  package var mnemonic: String { definition.mnemonic }
  package var attributes: [Attribute] { definition.attributes }

  /// The sizes among the attributes.
  package var sizes: [Size] {
    attributes.flatMap { attribute -> [Size] in
      if case .dimensions(let list) = attribute.value { list } else { [] }
    }
  }

  /// The graphs that the operation holds.
  package var regions: [Graph] {
    switch self {
    case .cond(let o): [o.then, o.otherwise]
    case .whileLoop(let o): [o.condition, o.body]
    case .scan(let o): [o.body]
    case .call(let o): [o.body]
    default: []
    }
  }

  package func withRegions(_ regions: [Graph]) throws(DLCError) -> Operation {
    try Operation(mnemonic: mnemonic, attributes: attributes, regions: regions)
  }

  /// The operation that a file or a text names.
  /// - Throws: `.unsupported` for an unknown mnemonic, `.graph` for bad attributes.
  package init(mnemonic: String, attributes: [Attribute], regions: [Graph] = []) throws(DLCError) {
    guard let decode = Self.decoders[mnemonic] else {
      throw DLCError(
        .unsupported, "unsupported operator '\(mnemonic.prefix(64))'",
        remedy: "the file may come from a newer dlc")
    }
    var reader = try AttributeReader(attributes, regions)
    self = try decode(mnemonic, &reader)
    try reader.finish()
  }

  package func mappingDimensions(
    _ body: (Size) throws(DLCError) -> Size
  ) throws(DLCError) -> Operation {
    var changed = false
    var list = attributes
    for index in list.indices {
      guard case .dimensions(let dimensions) = list[index].value else { continue }
      var bound: [Size] = []
      for dimension in dimensions { bound.append(try body(dimension)) }
      changed = changed || bound != dimensions
      list[index].value = .dimensions(bound)
    }
    var bound: [Graph] = []
    for region in regions { bound.append(try region.mappingDimensions(body)) }
    changed = changed || bound != regions
    return changed
      ? try Operation(mnemonic: mnemonic, attributes: list, regions: bound) : self
  }
}
