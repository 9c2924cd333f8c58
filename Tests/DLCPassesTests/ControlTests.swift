import DLCGraph
import DLCPasses
import DLCReference
import DLCTensor
import Testing

/// What `SimplifyControl` and `MaterializeOperands` do to loops, branches and calls.
@Suite struct ControlTests {
  static func graph(_ build: (FunctionBuilder) -> Void) throws -> Graph {
    var module = Module("m")
    try module.function("f", build)
    return module.functions[0].graph
  }

  /// Runs a pass and checks that the results stay.
  static func apply(_ pass: any Pass, _ graph: Graph) throws -> (
    graph: Graph, counts: [String: Int]
  ) {
    var budget = RewriteBudget()
    let (after, counts) = try pass.run(graph, &budget)
    #expect(after.violations(in: "after").isEmpty)
    let arguments = graph.arguments.map { argument in
      var array = ReferenceArray(argument.type.dataType, argument.type.sizes)
      for index in array.reals.indices { array.reals[index] = 0.1 * Double(index) - 0.4 }
      return array
    }
    let (old, new) = (
      Interpreter(.float64).run(graph, arguments), Interpreter(.float64).run(after, arguments)
    )
    for (a, b) in zip(graph.results, after.results) {
      #expect(old[a.value]!.reals == new[b.value]!.reals, "\(a.name)")
    }
    return (after, counts)
  }

  static func scans(_ graph: Graph) -> [Scan] {
    graph.nodes.compactMap { if case .scan(let scan) = $0.operation { scan } else { nil } }
  }

  @Test func callsAndKnownBranchesGoInline() throws {
    let before = try Self.graph { g in
      let x = g.input("x", .float64, [3])
      let twice = g.call("twice", [x]) { g, v in g.call("inner", v) { g, w in [w[0] + w[0]] } }
      let taken = g.cond(g.constant(0, .bool)) { _ in
        [x]
      } otherwise: { g in
        [g.tanh(twice[0])]
      }
      g.output("y", taken[0])
    }
    let (after, counts) = try Self.apply(SimplifyControl(), before)
    #expect(after.nodes.allSatisfy { $0.operation.regions.isEmpty } && counts["inline"] == 3)
  }

  /// A scan and the same scan with one more result are one scan.
  @Test func equalScansAreUnited() throws {
    let before = try Self.graph { g in
      let x = g.input("x", .float64, [4, 2])
      let start = g.constant(0.5, .float64, [2])
      func run(_ more: Bool) -> (carried: [Value], outputs: [Value]) {
        g.scan(carried: [start], inputs: [x]) { g, c, s in
          let product = c[0] * s[0]
          let next = g.tanh(product)
          return ([next], more ? [next, product] : [next])
        }
      }
      let (first, second) = (run(false), run(true))
      g.output("a", first.outputs[0])
      g.output("b", second.outputs[1])
      g.output("c", first.carried[0])
    }
    let (after, counts) = try Self.apply(SimplifyControl(), before)
    #expect(Self.scans(after).count == 1 && counts["merge-scans"] == 1)
  }

  /// Only what is used, and what that depends on, is carried, stacked and captured.
  @Test func loopsLoseWhatNobodyUses() throws {
    let before = try Self.graph { g in
      let x = g.input("x", .float64, [4, 2])
      let unused = g.input("unused", .float64, [2])
      let start = g.constant(0.5, .float64, [2])
      let (_, outputs) = g.scan(carried: [start, start, start], inputs: [x, x * 2.0]) { g, c, s in
        // The first is dropped; the second is read by the third; the third is written, not read.
        ([c[0] + unused, g.tanh(c[1] + s[0]), c[1] * 2.0], [c[0], c[1], s[1]])
      }
      g.output("y", outputs[1])
    }
    let (after, counts) = try Self.apply(SimplifyControl(), before)
    let scan = try #require(Self.scans(after).first)
    #expect(counts["trim"] == 1 && scan.carried == 1 && scan.stacked == 1)
    #expect(scan.body.arguments.count == 2 && scan.body.results.count == 2)
  }

  @Test func viewsAreCopiedForLoops() throws {
    let before = try Self.graph { g in
      let x = g.input("x", .float64, [2, 4])
      let turned = g.transpose(x, [1, 0])
      let (carried, _) = g.scan(
        carried: [g.constant(0, .float64, [2])], inputs: [turned]
      ) { g, c, s in ([c[0] + s[0]], []) }
      g.output("y", carried[0])
    }
    let (after, counts) = try Self.apply(MaterializeOperands(), before)
    let loop = try #require(after.nodes.first { !$0.operation.regions.isEmpty })
    for operand in loop.operands {
      guard let node = after.definition(operand) else { continue }
      switch node.operation {
      case .convert, .constant: break
      default: Issue.record("\(node.operation.mnemonic) is given to a loop")
      }
    }
    #expect(counts["materialize"] == 2)
  }
}
