import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Every sample of every operator: compiled code against the naive reference.
@Suite struct OperatorTests {
  /// Units in the last place that an operation may be off: 4 for elementary functions (the promise
  /// of `--math precise`), 1 for what is rounded once, more for sums in another order.
  static func tolerance(_ sample: OperatorSample) -> (ulps: Double, scale: Double) {
    switch sample.operation {
    case .unary(let u):
      // erf and the logarithms pass through zero; double functions are written for 4 ulp.
      return ([.tan, .cbrt].contains(u.function) ? 6 : 4, 0)
    case .binary(let b): return (b.function == .power ? 64 : 4, 0)
    case .reduce, .dotGeneral, .convolution, .reduceWindow, .cumulative, .scatter, .cholesky,
      .triangularSolve, .lu, .scan, .whileLoop, .cond, .call:
      // Rounding errors of a sum grow like the root of its length; terms are at most 4.
      let terms = sample.operands.map(\.elementCount).max() ?? 1
      return (4 + 2 * Double(min(terms, 4096)).squareRoot(), 4)
    default: return (1, 0)
    }
  }

  @Test(arguments: Operation.operators.indices)
  func compiledEqualsReference(_ index: Int) throws {
    let compiler = Compiler()
    for (number, sample) in Operation.operators[index].samples.enumerated() {
      let module = try Differential.module(sample)
      let arrays = Differential.arrays(
        sample.operands, range: sample.range, seed: UInt64(number) + 1)
      let inputs = Dictionary(
        uniqueKeysWithValues: arrays.enumerated().map { ("x\($0.offset)", $0.element) })
      let (expected, _) = try Interpreter().run(
        module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:])
      let what =
        "\(sample.operation.mnemonic) \(sample.operation.attributes.map(\.value.text)) \(sample.operands)"
      do {
        let results = try compiler.compile(module).run(inputs, threads: 2)
        let (ulps, scale) = Self.tolerance(sample)
        for (got, want) in zip(results, expected) {
          let error = Differential.error(got.value, want.value, ulps: ulps, scale: scale)
          #expect(
            error <= 1,
            "\(what): \(error) times the tolerance\n\(got.value.doubles.prefix(8))\n\(want.value.doubles.prefix(8))"
          )
        }
      } catch {
        Issue.record("\(what): \(error)")
      }
    }
  }
}
