package import DLCTensor

/// A function of each element.
package struct Unary: Operator {
  package var function: UnaryFunction
  package init(_ function: UnaryFunction) { self.function = function }

  package static let mnemonics = UnaryFunction.allCases.map(\.rawValue)
  package var mnemonic: String { function.rawValue }
  package var attributes: [Attribute] { [] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    function = UnaryFunction(rawValue: mnemonic)!
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    let type = operands[0].dataType
    if function.needsFloat {
      try require(type.isFloat, "float", "\(mnemonic) needs floating-point elements, not \(type)")
    } else if function == .not {
      try require(!type.isFloat, "bits", "not needs integers or bools, not \(type)")
    } else if function != .stop_gradient {
      try require(type != .bool, "numeric", "\(mnemonic) of bool is not defined")
    }
    return [function == .is_finite ? TensorType(.bool, operands[0].shape) : operands[0]]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    [mapReference(.unary(function), operands, results[0])]
  }

  package var derivative: Derivative {
    switch function {
    case .sign, .floor, .ceil, .round_nearest_even, .not, .is_finite, .stop_gradient: return .zero
    default: break
    }
    let function = function
    return .rule { p in
      let (g, d, x, y) = (p.g, p.cotangent, p.operands[0], p.results[0])
      func number(_ v: Double) -> Value { g.constant(v, like: x) }
      let slope: Value
      switch function {
      case .negate: return [-d]
      case .abs: slope = g.sign(x)
      case .exponential: slope = y
      case .exponential_minus_one: slope = y + number(1)
      case .log: return [d / x]
      case .log_plus_one: return [d / (x + number(1))]
      case .sqrt: return [d / (y * number(2))]
      case .rsqrt: slope = number(-0.5) * y * y * y
      case .cbrt: return [d / (number(3) * y * y)]
      case .tanh: slope = number(1) - y * y
      case .logistic: slope = y * g.logistic(-x)
      case .sine: slope = g.cosine(x)
      case .cosine: slope = -g.sine(x)
      case .tan: slope = number(1) + y * y
      case .erf: slope = number(2 / Double.pi.squareRoot()) * g.exponential(-(x * x))
      case .erfc: slope = number(-2 / Double.pi.squareRoot()) * g.exponential(-(x * x))
      default: return [nil]
      }
      return [d * slope]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .map(.unary(function))
  }

  package static var samples: [OperatorSample] {
    var list: [OperatorSample] = []
    for function in UnaryFunction.allCases {
      let operation = Operation.unary(Unary(function))
      let range: ClosedRange<Double> =
        switch function {
        case .log, .sqrt, .rsqrt: 0.1...4
        case .log_plus_one: -0.9...3
        case .cbrt: 0.2...3
        case .tan: -1.2...1.2
        default: -3...3
        }
      if function.needsFloat || function != .not {
        for type in [DataType.float32, .float64, .float16, .bfloat16] {
          list.append(OperatorSample(operation, [TensorType(type, [3, 7])], range: range))
        }
      }
      if !function.needsFloat {
        for type in [DataType.int8, .int32, .int64, .uint8, .uint32] {
          list.append(OperatorSample(operation, [TensorType(type, [11])]))
        }
      }
    }
    list.append(OperatorSample(.unary(Unary(.not)), [TensorType(.bool, [9])]))
    return list
  }
}

/// Elementwise evaluation through the scalar reference.
package func mapReference(
  _ operation: ScalarOperation, _ operands: [ReferenceArray], _ result: TensorType
) -> ReferenceArray {
  var out = ReferenceArray(result.dataType, result.sizes)
  let type = operands.last!.type
  for index in 0..<out.count {
    out[index] = ScalarReference.apply(operation, type, operands.map { $0[index] })
  }
  return out
}
