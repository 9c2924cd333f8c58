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
  case bitcast(Bitcast)
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
    case .bitcast(let o): o
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

  private static func entry<O: Operator>(
    _: O.Type, _ wrap: @escaping @Sendable (O) -> Operation
  ) -> (type: any Operator.Type, decoders: [(String, Decoder)]) {
    let decoder: Decoder = { (name, reader) throws(DLCError) in
      wrap(try O(mnemonic: name, &reader))
    }
    return (O.self, O.mnemonics.map { ($0, decoder) })
  }

  /// The operators by themselves. A new case of `Operation` needs one here, and that one a decoder.
  package enum Kind: Int, CaseIterable, Sendable {
    case constant, dimension, iota, randomBits, unary, binary, compare, select, clamp,
      convert, bitcast, reshape, transpose, broadcast, slice, pad, concatenate, reverse, reduce,
      argReduce, dotGeneral, convolution, reduceWindow, gather, scatter, dynamicSlice,
      dynamicUpdate, cumulative, argWindow, sort, cholesky, triangularSolve, lu, cond,
      whileLoop, scan, call
  }

  package var kind: Kind {
    switch self {
    case .constant: .constant
    case .dimension: .dimension
    case .iota: .iota
    case .randomBits: .randomBits
    case .unary: .unary
    case .binary: .binary
    case .compare: .compare
    case .select: .select
    case .clamp: .clamp
    case .convert: .convert
    case .bitcast: .bitcast
    case .reshape: .reshape
    case .transpose: .transpose
    case .broadcast: .broadcast
    case .slice: .slice
    case .pad: .pad
    case .concatenate: .concatenate
    case .reverse: .reverse
    case .reduce: .reduce
    case .argReduce: .argReduce
    case .dotGeneral: .dotGeneral
    case .convolution: .convolution
    case .reduceWindow: .reduceWindow
    case .gather: .gather
    case .scatter: .scatter
    case .dynamicSlice: .dynamicSlice
    case .dynamicUpdate: .dynamicUpdate
    case .cumulative: .cumulative
    case .argWindow: .argWindow
    case .sort: .sort
    case .cholesky: .cholesky
    case .triangularSolve: .triangularSolve
    case .lu: .lu
    case .cond: .cond
    case .whileLoop: .whileLoop
    case .scan: .scan
    case .call: .call
    }
  }

  private static func entry(_ kind: Kind) -> (
    type: any Operator.Type, decoders: [(String, Decoder)]
  ) {
    switch kind {
    case .constant: entry(Constant.self) { .constant($0) }
    case .dimension: entry(DimensionSize.self) { .dimension($0) }
    case .iota: entry(Iota.self) { .iota($0) }
    case .randomBits: entry(RandomBits.self) { .randomBits($0) }
    case .unary: entry(Unary.self) { .unary($0) }
    case .binary: entry(Binary.self) { .binary($0) }
    case .compare: entry(Compare.self) { .compare($0) }
    case .select: entry(Select.self) { .select($0) }
    case .clamp: entry(Clamp.self) { .clamp($0) }
    case .convert: entry(Convert.self) { .convert($0) }
    case .bitcast: entry(Bitcast.self) { .bitcast($0) }
    case .reshape: entry(Reshape.self) { .reshape($0) }
    case .transpose: entry(Transpose.self) { .transpose($0) }
    case .broadcast: entry(Broadcast.self) { .broadcast($0) }
    case .slice: entry(Slice.self) { .slice($0) }
    case .pad: entry(Pad.self) { .pad($0) }
    case .concatenate: entry(Concatenate.self) { .concatenate($0) }
    case .reverse: entry(Reverse.self) { .reverse($0) }
    case .reduce: entry(Reduce.self) { .reduce($0) }
    case .argReduce: entry(ArgReduce.self) { .argReduce($0) }
    case .dotGeneral: entry(DotGeneral.self) { .dotGeneral($0) }
    case .convolution: entry(Convolution.self) { .convolution($0) }
    case .reduceWindow: entry(ReduceWindow.self) { .reduceWindow($0) }
    case .gather: entry(Gather.self) { .gather($0) }
    case .scatter: entry(Scatter.self) { .scatter($0) }
    case .dynamicSlice: entry(DynamicSlice.self) { .dynamicSlice($0) }
    case .dynamicUpdate: entry(DynamicUpdateSlice.self) { .dynamicUpdate($0) }
    case .cumulative: entry(Cumulative.self) { .cumulative($0) }
    case .argWindow: entry(ArgWindow.self) { .argWindow($0) }
    case .sort: entry(Sort.self) { .sort($0) }
    case .cholesky: entry(Cholesky.self) { .cholesky($0) }
    case .triangularSolve: entry(TriangularSolve.self) { .triangularSolve($0) }
    case .lu: entry(LU.self) { .lu($0) }
    case .cond: entry(Cond.self) { .cond($0) }
    case .whileLoop: entry(While.self) { .whileLoop($0) }
    case .scan: entry(Scan.self) { .scan($0) }
    case .call: entry(Call.self) { .call($0) }
    }
  }

  private static let decoders: [String: Decoder] = Dictionary(
    uniqueKeysWithValues: Kind.allCases.flatMap { entry($0).decoders })

  /// The operator types, for tests that walk all of them.
  package static let operators: [any Operator.Type] = Kind.allCases.map { entry($0).type }

  package var mnemonic: String { definition.mnemonic }
  package var attributes: [Attribute] { definition.attributes }

  /// The sizes among the attributes.
  package var sizes: [Size] {
    attributes.flatMap { attribute -> [Size] in
      if case .dimensions(let list) = attribute.value { list } else { [] }
    }
  }

  /// The graphs that the operation holds.
  package var regions: [Graph] { flow?.arms.map(\.graph) ?? [] }

  /// How it runs them; nil when it holds none.
  package var flow: ControlFlow? { control?.flow }

  package var control: (any ControlOperator)? {
    switch self {
    case .cond(let o): o
    case .whileLoop(let o): o
    case .scan(let o): o
    case .call(let o): o
    default: nil
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
