package import DLCTensor

/// A function of the corresponding elements of two tensors of one type.
package struct Binary: Operator {
  package var function: BinaryFunction
  package init(_ function: BinaryFunction) { self.function = function }

  package static let mnemonics = BinaryFunction.allCases.map(\.rawValue)
  package var mnemonic: String { function.rawValue }
  package var attributes: [Attribute] { [] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    function = BinaryFunction(rawValue: mnemonic)!
  }

  static func allows(_ function: BinaryFunction, _ type: DataType) -> Bool {
    switch function {
    case .atan2: type.isFloat
    case .and, .or, .xor: !type.isFloat
    case .shift_left, .shift_right_logical, .shift_right_arithmetic: type.isInteger
    case .maximum, .minimum: true
    default: type != .bool
    }
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 2)
    try requireSameType(operands)
    let type = operands[0].dataType
    try require(
      Self.allows(function, type), "element-type", "\(mnemonic) is not defined on \(type)")
    return [operands[0]]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    [mapReference(.binary(function), operands, results[0])]
  }

  package var derivative: Derivative {
    switch function {
    case .and, .or, .xor, .shift_left, .shift_right_logical, .shift_right_arithmetic: return .zero
    default: break
    }
    let function = function
    return .rule { p in
      let (g, d, a, b, y) = (p.g, p.cotangent, p.operands[0], p.operands[1], p.results[0])
      let zero = g.constant(0, like: d)
      switch function {
      case .add: return [d, d]
      case .subtract: return [d, -d]
      case .multiply: return [d * b, d * a]
      case .divide:
        let da = d / b
        return [da, -(da * y)]
      // The first of equal arguments takes the whole cotangent.
      case .maximum:
        let first = g.compare(.greater_equal, a, b)
        return [g.select(first, d, zero), g.select(first, zero, d)]
      case .minimum:
        let first = g.compare(.less_equal, a, b)
        return [g.select(first, d, zero), g.select(first, zero, d)]
      case .power:
        // At base 0 the slope of exponent 0 is 0 b^1, which is 0 for every order, not 0 times 1/0; and
        // 0^b stays 0 as b moves, for every b above 0.
        let one = g.constant(1, like: d)
        let isZero = g.compare(.equal, a, zero)
        let isConstant = isZero & g.compare(.equal, b, zero)
        let da = d * b * g.power(a, g.select(isConstant, one, b - one))
        let stays = isZero & g.compare(.greater_equal, b, zero)
        return [da, g.select(stays, zero, d * y * g.log(g.select(stays, one, a)))]
      case .remainder:
        let whole = g.binary(.divide, a, b)
        let truncated = g.sign(whole) * g.unary(.floor, g.abs(whole))
        return [d, -(d * truncated)]
      case .atan2:
        let norm = a * a + b * b
        return [d * b / norm, -(d * a / norm)]
      default: return [nil, nil]
      }
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .map(.binary(function))
  }

  package static var samples: [OperatorSample] {
    var list: [OperatorSample] = []
    for function in BinaryFunction.allCases {
      for type in DataType.allCases where allows(function, type) {
        let operand = TensorType(type, [5, 4])
        let range: ClosedRange<Double> =
          switch function {
          case .power, .divide, .remainder: 0.3...3
          default: -2...2
          }
        list.append(
          OperatorSample(.binary(Binary(function)), [operand, operand], range: range))
      }
    }
    return list
  }
}
