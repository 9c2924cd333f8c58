package import DLCTensor

/// Changes the element type, rounding once. Floats to integers truncate and saturate, NaN becomes 0;
/// anything to bool is "not zero"; narrower integers keep the low bits.
package struct Convert: Operator {
  package var target: DataType
  /// False: a half float with the number that a float32 has. It is rounded where it leaves the function,
  /// as what is computed is.
  package var rounds: Bool
  package init(_ target: DataType, rounds: Bool = true) {
    self.target = target
    self.rounds = rounds
  }

  package static let mnemonics = ["convert"]
  package var mnemonic: String { "convert" }
  package var attributes: [Attribute] {
    [Attribute("dtype", .type(target))] + (rounds ? [] : [Attribute("rounds", .flag(false))])
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    target = try attributes.type("dtype")
    rounds = try attributes.flag("rounds", otherwise: true)
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    try require(
      rounds || target != target.computeType && operands[0].dataType == target.computeType, "rounds",
      "\(operands[0].dataType) to \(target) is not carried")
    return [TensorType(target, operands[0].shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    [mapReference(.convert(target), operands, results[0])]
  }

  package var derivative: Derivative {
    guard target.isFloat else { return .zero }
    return .rule { p in
      let source = p.operands[0].dataType
      guard source.isFloat else { return [nil] }
      // The cotangent of a half float is rounded when it is stored, not on the way.
      return [p.g.carry(p.g.convert(p.cotangent, source.computeType), source)]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .map(.convert(target))
  }

  package static var samples: [OperatorSample] {
    DataType.allCases.flatMap { source in
      DataType.allCases.map { target in
        OperatorSample(
          .convert(Convert(target)), [TensorType(source, [13])],
          range: target.isSigned ? -100...100 : 0...100)
      }
    }
      + [DataType.float16, .bfloat16].map {
        OperatorSample(
          .convert(Convert($0, rounds: false)), [TensorType(.float32, [13])], range: -100...100)
      }
  }
}
