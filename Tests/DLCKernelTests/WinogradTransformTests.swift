import DLCKernel
import Testing

private struct Doubles: LinearArithmetic {
  mutating func multiply(_ a: Double, _ factor: Double) -> Double { a * factor }
  mutating func multiplyAdd(_ a: Double, _ factor: Double, _ b: Double) -> Double {
    a * factor + b
  }
  mutating func add(_ a: Double, _ b: Double) -> Double { a + b }
  mutating func subtract(_ a: Double, _ b: Double) -> Double { a - b }
}

@Suite struct WinogradTransformTests {
  @Test(arguments: [2, 4]) func productsGiveTheConvolution(_ outputs: Int) {
    let transform = WinogradTransform(outputs: outputs)
    func square(_ size: Int, _ a: Int, _ b: Int, _ bound: Int) -> [[Double]] {
      (0..<size).map { i -> [Double] in
        (0..<size).map { j -> Double in
          let number: Int = (i * a + j * j * b) % bound
          return Double(number - bound / 2)
        }
      }
    }
    let d = square(transform.inputs, 7, 3, 11)
    let g = square(3, 5, 2, 7)
    var a = Doubles()
    let x = transform.both(d) { transform.input($0, &a) }
    let w = transform.both(g) { transform.kernel($0, &a) }
    let products = zip(x, w).map { zip($0, $1).map(*) }
    let y = transform.both(products) { transform.output($0, &a) }
    #expect(y.count == outputs && y.allSatisfy { $0.count == outputs })
    for i in 0..<outputs {
      for j in 0..<outputs {
        var want = 0.0
        for p in 0..<3 { for q in 0..<3 { want += d[i + p][j + q] * g[p][q] } }
        #expect(abs(y[i][j] - want) < 1e-12)
      }
    }
    // Two outputs: only halves, so that small integers come out exactly.
    if outputs == 2 { #expect(y.joined().allSatisfy { $0 == $0.rounded() }) }
  }
}
