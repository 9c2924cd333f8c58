import DLCGraph
import DLCPasses
import DLCTensor
import Testing

/// What is done to loops, branches and calls.
@Suite struct SimplifyControlTests {
  static func scans(_ graph: Graph) -> [Scan] {
    graph.nodes.compactMap { if case .scan(let scan) = $0.operation { scan } else { nil } }
  }

  @Test func callsAndKnownBranchesGoInline() throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", .float64, [3])
      let twice = g.call("twice", [x]) { g, v in g.call("inner", v) { g, w in [w[0] + w[0]] } }
      let taken = g.cond(g.constant(0, .bool)) { _ in
        [x]
      } otherwise: { g in
        [g.tanh(twice[0])]
      }
      g.output("y", taken[0])
      g.output("z", twice[0])
    }
    let (after, counts) = try PassCheck.run(SimplifyControl(), before)
    #expect(after.nodes.allSatisfy { $0.operation.regions.isEmpty })
    #expect(counts == ["inline-call": 2, "known-branch": 1])
  }

  /// A scan and the same scan with one more result are one scan.
  @Test func equalScansAreUnited() throws {
    let before = try PassCheck.graph { g in
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
    let (after, counts) = try PassCheck.run(SimplifyControl(), before)
    #expect(Self.scans(after).count == 1 && counts["merge-scans"] == 1)
  }

  /// Only what is used, and what that depends on, is carried, stacked and captured.
  @Test func loopsLoseWhatNobodyUses() throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", .float64, [4, 2])
      let unused = g.input("unused", .float64, [2])
      let start = g.constant(0.5, .float64, [2])
      let (_, outputs) = g.scan(carried: [start, start, start], inputs: [x, x * 2.0]) { g, c, s in
        // The first is dropped; the second is read by the third; the third is written, not read.
        ([c[0] + unused, g.tanh(c[1] + s[0]), c[1] * 2.0], [c[0], c[1], s[1]])
      }
      g.output("y", outputs[1])
    }
    let (after, counts) = try PassCheck.run(SimplifyControl(), before)
    let scan = try #require(Self.scans(after).first)
    #expect(counts["trim"] == 1 && scan.carried == 1 && scan.stacked == 1)
    #expect(scan.body.arguments.count == 2 && scan.body.results.count == 2)
  }
}
