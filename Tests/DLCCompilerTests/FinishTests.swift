import DLCCompiler
import DLCGraph
import DLCKernel
import DLCTensor
import Testing

/// What follows for each element of a product is done while its sums are in registers.
@Suite struct FinishTests {
  private enum Kind: CaseIterable {
    case bias
    case rowBias
    case clippedBias
    case residual
    case scaledByScalar
    case twoResults
    case halfResult
  }

  private static func product(
    _ kind: Kind, _ sizes: [Int], _ type: DataType, showsProduct: Bool
  ) throws -> Module {
    var module = Module("m")
    let (m, k, n) = (Size(sizes[0]), Size(sizes[1]), Size(sizes[2]))
    try module.function("f") { g in
      let product = g.matmul(g.input("x", type, [m, k]), g.input("w", type, [k, n]))
      let bias = g.input("b", type, [n])
      let other = g.input("r", type, [m, n])
      switch kind {
      case .bias: g.output("y", product + bias)
      case .rowBias: g.output("y", product + g.input("c", type, [m, 1]))
      case .clippedBias: g.output("y", g.clamp(product + bias, -0.5, 0.5) * 3)
      case .residual: g.output("y", g.relu(product + bias + other))
      case .scaledByScalar: g.output("y", product * g.input("s", type, []) - other)
      case .twoResults:
        let y = product + bias
        g.output("y", y)
        g.output("z", other - y)
      case .halfResult: g.output("y", g.convert(product + bias, .float16))
      }
      if showsProduct { g.output("product", g.sum(product, axes: [0])) }
    }
    return module
  }

  /// `--emit kernels` says so by this; long chains of instructions take the block from memory.
  @Test func kernelsSayThatTheyFinish() throws {
    func finishing(_ kind: Kind) throws -> Int {
      let module = try Self.product(kind, [24, 32, 48], .float32, showsProduct: false)
      return try ComparedRun(module).build.kernels.count(where: \.finishesProducts)
    }
    #expect(try finishing(.bias) == 1)
    #expect(try finishing(.twoResults) == 1)
    #expect(try Self.finishes(ComparedRun(Self.squashed())).isEmpty)
  }

  private static func squashed() throws -> Module {
    var module = Module("m")
    try module.function("f") { g in
      let x = g.matmul(g.input("x", .float32, [24, 32]), g.input("w", .float32, [32, 48]))
      g.output("y", g.tanh(x))
    }
    return module
  }

  private static func finishes(_ run: ComparedRun) -> [ProductFinish] {
    run.build.kernels.flatMap { kernel in
      kernel.allSections.flatMap(\.body).compactMap {
        if case .contract(let c) = $0 { c.finish } else { nil }
      }
    }
  }

  /// Every kind, sizes with and without whole tiles and panels, and depths of one part and of several: the bits of a
  /// product that is stored first.
  @Test(
    arguments: [
      [48, 32, 64], [7, 20, 33], [36, 2, 16], [13, 64, 5], [33, 700, 40], [2, 330, 19],
    ],
    [DataType.float32, .float64, .int32])
  func bitsAreThoseOfAStoredProduct(_ sizes: [Int], _ type: DataType) throws {
    for kind in Kind.allCases where type.isFloat || kind == .bias || kind == .residual {
      let one = try ComparedRun(Self.product(kind, sizes, type, showsProduct: false))
      let apart = try ComparedRun(Self.product(kind, sizes, type, showsProduct: true))
      #expect(Self.finishes(one).count == 1 && Self.finishes(apart).isEmpty, "\(kind)")
      for (name, value) in one.results { #expect(value == apart.results[name], "\(kind) \(name)") }
    }
  }

  /// Results inside of a border go to lines that end within a register tile.
  @Test(arguments: [7, 9, 16]) func bordersAreStoredAround(_ side: Int) throws {
    var module = Module("m")
    let size = Size(side)
    try module.function("f") { g in
      let sums = g.dotGeneral(
        g.input("x", .float32, [3, 5, size, 8]), g.input("w", .float32, [8, 24]),
        lhsContracting: [3], rhsContracting: [0])
      let y = g.relu(sums + g.input("b", .float32, [24]))
      g.output("y", g.pad(y, 0.25, low: [0, 1, 2, 0], high: [0, 2, 1, 0]))
    }
    let run = try ComparedRun(module)
    #expect(Self.finishes(run).contains { $0.accesses.contains { $0.line == side } })
  }
}
