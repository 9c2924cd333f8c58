import DLCGraph
import DLCLowering
import DLCPasses
import DLCProgram
import DLCTensor
import Foundation
import Testing

/// The time that passes, partition, lowering, assembly and verification take grows about as the number
/// of nodes, operands, buffers and names does.
@Suite struct GrowthTests {
  /// Seconds of this thread's processor time.
  static func seconds(_ body: () throws -> Void) rethrows -> Double {
    func now() -> Double {
      var time = timespec()
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
      return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
    let start = now()
    try body()
    return now() - start
  }

  static func compile(_ graph: Graph) throws {
    var manager = PassManager(StandardPasses.all)
    let improved = try manager.run(graph)
    let target = LoweringTests.target
    let plan = GraphPlan(improved, target)
    let program = ProgramAssembly.assemble(plan, states: [], target).program
    try program.verifySharing(StorageMap(program))
  }

  static let square = TensorType(.float32, [8, 8])

  static func add(_ graph: inout Graph, _ operation: DLCGraph.Operation, _ operands: [ValueID])
    throws
    -> ValueID
  { try graph.append(operation, operands)[0] }

  /// Products in a row: a long chain of steps, each with a buffer of its own.
  static func products(_ n: Int) throws -> Graph {
    var graph = Graph()
    var x = graph.addArgument(Argument(.input, "x", square))
    let w = graph.addArgument(Argument(.input, "w", square))
    for _ in 0..<n {
      x = try add(
        &graph, .dotGeneral(DotGeneral(lhsContracting: [1], rhsContracting: [0])), [x, w])
    }
    graph.results = [NamedValue("y", x)]
    return graph
  }

  /// A chain of sums each of which is reduced to a number of its own.
  static func sums(_ n: Int) throws -> Graph {
    var graph = Graph()
    let x = graph.addArgument(Argument(.input, "x", square))
    var sum = try add(&graph, .unary(Unary(.tanh)), [x])
    for index in 0..<n {
      let whole = try add(&graph, .reduce(Reduce(.sum, axes: [0, 1])), [sum])
      graph.results.append(NamedValue("y\(index)", whole))
      sum = try add(&graph, .binary(Binary(.add)), [sum, x])
    }
    return graph
  }

  /// One concatenation of many operands.
  static func concatenation(_ n: Int) throws -> Graph {
    var graph = Graph()
    let inputs = (0..<n).map {
      graph.addArgument(Argument(.input, "x\($0)", TensorType(.float32, [3])))
    }
    var parts: [ValueID] = []
    for x in inputs { parts.append(try add(&graph, .unary(Unary(.tanh)), [x])) }
    let y = try add(&graph, .concatenate(Concatenate(axis: 0)), parts)
    graph.results = [NamedValue("y", y)]
    return graph
  }

  /// Independent outputs.
  static func wide(_ n: Int) throws -> Graph {
    var graph = Graph()
    let x = graph.addArgument(Argument(.input, "x", TensorType(.float32, [4])))
    for index in 0..<n {
      let c = try add(
        &graph, .constant(Constant(Tensor(splat: Double(index), .float32, [4]))), [])
      graph.results.append(
        NamedValue("y\(index)", try add(&graph, .binary(Binary(.multiply)), [x, c])))
    }
    return graph
  }

  /// Many values that all live at once: partial results kept until the end.
  static func live(_ n: Int) throws -> Graph {
    var graph = Graph()
    let w = graph.addArgument(Argument(.input, "w", square))
    var kept: [ValueID] = []
    for _ in 0..<n {
      kept.append(
        try add(
          &graph, .dotGeneral(DotGeneral(lhsContracting: [1], rhsContracting: [0])),
          [kept.last ?? w, w]))
    }
    let y = try add(&graph, .concatenate(Concatenate(axis: 0)), kept)
    graph.results = [NamedValue("y", y)]
    return graph
  }

  /// A chain of views, followed wherever a value is asked for.
  static func views(_ n: Int) throws -> Graph {
    var graph = Graph()
    let x = graph.addArgument(Argument(.input, "x", TensorType(.float32, [4, 6])))
    var y = try add(&graph, .unary(Unary(.tanh)), [x])
    for index in 0..<n {
      y = try add(&graph, .reverse(Reverse([index % 2])), [y])
      if index % 7 == 6 { y = try add(&graph, .unary(Unary(.negate)), [y]) }
    }
    graph.results = [NamedValue("y", try add(&graph, .unary(Unary(.tanh)), [y]))]
    return graph
  }

  static let families: [(name: String, size: Int, make: @Sendable (Int) throws -> Graph)] = [
    ("products", 150, products), ("sums", 100, sums), ("concatenation", 150, concatenation),
    ("wide", 300, wide), ("live", 150, live), ("views", 200, views),
  ]

  @Test(arguments: families.indices) func compileTimeIsAboutLinear(_ index: Int) throws {
    let (name, size, make) = Self.families[index]
    let (small, large) = (try make(size), try make(4 * size))
    var ratio = Double.infinity
    var times = (0.0, 0.0)
    // Four times as many may take 4 times, and the logarithm; a square would take 16 times.
    for _ in 0..<3 where ratio > 7.5 {
      times.0 = try Self.seconds { try Self.compile(small) }
      times.1 = try Self.seconds { try Self.compile(large) }
      ratio = min(ratio, times.1 / times.0)
    }
    #expect(ratio <= 7.5, "\(name) takes \(times.0) s for \(size), \(times.1) s for \(4 * size)")
  }

  @Test func manyNamedDimensionsAreChecked() throws {
    func check(_ n: Int) throws {
      var module = Module("m")
      for index in (0..<n).reversed() { module.dimension("d\(index)", default: 2) }
      try module.function("f") { g in g.output("y", g.tanh(g.input("x", .float32, ["d0", "d1"]))) }
      let sizes = try module.bind()
      #expect(module.violations().isEmpty && sizes.count == n)
    }
    try check(100)
    let (small, large) = (
      try Self.seconds { try check(1000) }, try Self.seconds { try check(4000) }
    )
    #expect(large <= 8 * small, "1000 names take \(small) s, 4000 take \(large) s")
  }
}
