import DLCCompiler
package import DLCGraph
import DLCReference
import DLCRuntime
package import DLCTensor

/// Runs graphs both ways and compares.
package enum Differential {
  /// Random arrays for types: floats in a range, integers small, bools both ways, uint64 any bits.
  package static func arrays(_ types: [TensorType], range: ClosedRange<Double>, seed: UInt64)
    -> [Tensor]
  {
    types.enumerated().map { number, type in
      let count = type.elementCount
      func word(_ i: Int) -> UInt32 {
        Philox.word(index: UInt64(i), key: seed, counter: UInt64(number))
      }
      let sizes = type.sizes
      if type.dataType.isFloat {
        let span = range.upperBound - range.lowerBound
        return Tensor(
          type.dataType, sizes,
          rounding: (0..<count).map { range.lowerBound + span * Double(word($0)) * 0x1p-32 })
      }
      return Tensor(
        type.dataType, sizes,
        truncating: (0..<count).map {
          switch type.dataType {
          case .bool: Int64(word($0) & 1)
          case .uint64: Int64(word($0)) << 20
          case .uint8, .uint16, .uint32: Int64(word($0) % 11)
          default: Int64(word($0) % 23) - 11
          }
        })
    }
  }

  /// The largest error of `got` in units of what is allowed: `ulps` units in the last place of the
  /// reference, but never less than that of `scale`, the size of the terms that were summed.
  package static func error(_ got: Tensor, _ want: Tensor, ulps: Double, scale: Double) -> Double {
    guard got.type == want.type else { return .infinity }
    if !want.dataType.isFloat { return got.integers == want.integers ? 0 : .infinity }
    let epsilon: Double =
      switch want.dataType {
      case .float64: 0x1p-52
      case .float32: 0x1p-23
      case .float16: 0x1p-10
      default: 0x1p-7
      }
    let tiny: Double =
      want.dataType == .float64 ? 0x1p-1060 : want.dataType == .float16 ? 0x1p-22 : 0x1p-140
    var worst = 0.0
    for (a, b) in zip(got.doubles, want.doubles) {
      if a == b || a.isNaN && b.isNaN { continue }
      if a.isNaN || b.isNaN || a.isInfinite || b.isInfinite { return .infinity }
      worst = max(worst, abs(a - b) / (ulps * max(abs(b), scale) * epsilon + tiny))
    }
    return worst
  }

  /// A module with one function of one operation.
  package static func module(_ sample: OperatorSample) throws(DLCError) -> Module {
    var graph = Graph()
    var operands: [ValueID] = []
    for (index, type) in sample.operands.enumerated() {
      operands.append(graph.addArgument(Argument(.input, "x\(index)", type)))
    }
    let results = try graph.append(sample.operation, operands)
    graph.results = results.enumerated().map { NamedValue("y\($0.offset)", $0.element) }
    var module = Module("sample")
    module.add(Function("forward", graph))
    return module
  }
}
