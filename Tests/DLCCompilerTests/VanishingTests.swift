import DLCCompiler
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Exponentials of masked places: they are 0, and take no longer than others.
@Suite(.serialized) struct VanishingTests {
  private static let count = 1 << 15

  @Test(arguments: [DataType.float32, .float64]) func exponentialsVanish(_ type: DataType) throws {
    var module = Module("m")
    try module.function("f") { g in
      g.output("y", g.exponential(g.input("x", type, [8])))
    }
    let x = Tensor(
      type, [8],
      rounding: [
        -.infinity, -1e30, type == .float64 ? -746.5 : -104.5, -1000, 0, 1, .infinity, .nan,
      ])
    let y = try Objects.compiler().compile(module).run(["x": x])[0].value.doubles
    #expect(Array(y[..<4]) == [0, 0, 0, 0] && y[4] == 1 && y[6] == .infinity && y[7].isNaN)
    #expect(y[..<4].allSatisfy { $0.sign == .plus })
  }

  /// A product whose result vanishes is an exception in the processor, a hundred times as dear as one that does not.
  @Test func masksAreNotSlow() throws {
    var module = Module("m")
    try module.function("f") { g in
      g.output("y", g.exponential(g.input("x", .float32, [Size(Self.count)])))
    }
    let executable = try Objects.compiler().compile(module)
    func fastest(_ value: Float) throws -> Duration {
      let x = Tensor([Self.count], [Float](repeating: value, count: Self.count))
      return try (0..<50).map { _ in
        try ContinuousClock().measure { _ = try executable.run(["x": x], threads: 1) }
      }.min()!
    }
    let usual = try fastest(-1)
    for masked in [-1e9, -.infinity] as [Float] {
      #expect(try fastest(masked) < usual * 3, "\(masked)")
    }
  }
}
