import DLCKernel
import DLCTensor
import Testing

@Suite struct CostModelTests {
  static let target = TargetTests.target("+avx2,+fma", cpu: "znver3")

  /// y[i] = f(x[i * stride]) in vectors.
  static func map(_ count: Int, _ operation: ScalarOperation, stride: Int = 1) -> Kernel {
    let i = LoopVariable(id: 0, extent: count)
    return Kernel(
      name: "map",
      parameters: [
        Parameter(.float32, count * stride, isOutput: false),
        Parameter(.float32, count, isOutput: true),
      ], locals: [], grid: [],
      body: [
        .loop(
          Loop(
            i, mode: .vector(unroll: 4),
            body: [
              .define(
                ScalarID(0), .load(.parameter(0), IndexExpression(i) * stride, .float32)),
              .define(ScalarID(1), .apply(operation, .float32, [ScalarID(0)])),
              .store(.parameter(1), IndexExpression(i), ScalarID(1), .float32),
            ]))
      ], flops: 0, bytesMoved: 0)
  }

  @Test func pricesAreOrdered() {
    let model = CostModel(Self.target)
    func total(_ kernel: Kernel) -> Double { model.price(kernel).total }
    let plain = Self.map(4096, .unary(.negate))
    #expect(total(plain) < total(Self.map(8192, .unary(.negate))))
    #expect(total(plain) < total(Self.map(4096, .unary(.exponential))))
    let apart = model.price(Self.map(4096, .unary(.negate), stride: 7))
    #expect(model.price(plain).cycles < apart.cycles)
    let long = total(Self.map(1 << 20, .unary(.negate)))
    let work = total(plain) - CostModel.step
    #expect(long > 256 * work)
  }

  /// Whole register tiles are the cheapest for a product.
  @Test func thinTilesCostMore() {
    let model = CostModel(Self.target)
    func perProduct(_ rows: Int, _ columns: Int) -> Double {
      model.contract(.float32, tile: Self.target.tile, rows: rows, columns: columns, depth: 256)
        / Double(rows * columns)
    }
    let whole = perProduct(Self.target.tile.rows, 16)
    #expect(perProduct(1, 16) > whole && perProduct(Self.target.tile.rows, 1) > whole)
    // Near the peak: two multiply-adds of eight lanes in a cycle.
    #expect(whole / 256 < 1.3 / 16)
  }

  @Test func fartherIsSlower() {
    let model = CostModel(Self.target)
    let sizes = [Self.target.caches.l1, Self.target.caches.l2, Self.target.caches.l3, 1 << 30]
    let speeds = sizes.map { model.bandwidth(Double($0)) }
    let sorted = speeds.sorted(by: >)
    #expect(speeds == sorted)
    #expect(Set(speeds).count == 4)
  }
}
