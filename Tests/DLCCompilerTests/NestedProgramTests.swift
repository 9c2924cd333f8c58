import DLCCompiler
import DLCGraph
import DLCProgram
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

/// Loops and branches inside each other: random programs, and what the verifier says of damaged plans.
@Suite struct NestedProgramTests {
  /// New programs in every run of the tests: the seed of a failure is printed, `Tools/fuzz-graphs 60
  /// SEED` repeats it.
  @Test(arguments: 0..<4) func compiledEqualsInterpreted(_ part: Int) {
    let first =
      ProcessInfo.processInfo.environment["DLC_SEED"].flatMap { UInt64($0) }
      ?? UInt64.random(in: 1..<1 << 40)
    var unstable = 0
    for number in 0..<55 {
      let seed = first &+ UInt64(part * 1000 + number)
      let (outcome, failure) = ProgramFuzzer.run(seed: seed, ProgramFuzzer.type(seed))
      if let failure {
        Issue.record(
          "seed \(failure.seed), \(failure.type): \(failure.complaint)\n\(failure.numbers)\n\(failure.text)"
        )
        return
      }
      if case .unstable = outcome { unstable += 1 }
    }
    #expect(unstable <= 5, "\(unstable) of 55 programs say nothing; the first seed is \(first)")
  }

  /// A scan in a scan, whose inner loop starts from a slice of the outer stack that later iterations
  /// still need.
  static func nested() throws -> Module {
    var module = Module("nested")
    try module.function("forward") { g in
      let x = g.input("x", .float32, [5, 64])
      let stack = g.tanh(x)
      let (_, rows) = g.scan(carried: [g.constant(0, .float32, [64])], inputs: [stack]) { g, c, s in
        let (inner, _) = g.scan(carried: [s[0]], length: 3) { g, c, _ in
          ([g.sine(c[0]) + g.cumulativeSum(c[0], axis: 0) * 0.01], [])
        }
        let first = g.cumulativeSum(inner[0], axis: 0)
        let second = g.cumulativeSum(first * c[0], axis: 0)
        return ([g.tanh(second)], [first + second])
      }
      g.output("y", rows[0])
    }
    return module
  }

  /// Moving any arena buffer onto another that is in use at the same time is found, and so is a step
  /// that lost what it must wait for.
  @Test func theVerifierRejectsSharedBytesAndLostOrder() throws {
    let program = try Compiler().build(try Self.nested(), function: nil, dimensions: [:]).program
    let storage = StorageMap(program)
    try program.verifySharing(storage)
    let liveness = Liveness(program, storage)
    let arena = liveness.ranges.keys.filter {
      if case .arena = program[$0].place { program[$0].byteCount > 0 } else { false }
    }.sorted { $0.index < $1.index }
    var overlapping = 0
    for a in arena {
      for b in arena where a != b {
        let (x, y) = (liveness.ranges[a]!, liveness.ranges[b]!)
        // Ranges that meet in one step may be a value that takes the place of another.
        guard x.overlaps(y), x.upperBound != y.lowerBound, y.upperBound != x.lowerBound else {
          continue
        }
        overlapping += 1
        var damaged = program
        damaged.buffers[a.index].place = damaged.buffers[b.index].place
        #expect(throws: DLCError.self, "b\(a.index) on b\(b.index)") {
          try damaged.verifySharing(storage)
        }
      }
    }
    #expect(overlapping >= 6)
    var cut = 0
    for index in program.steps.indices where !program.steps[index].dependencies.isEmpty {
      var damaged = program
      damaged.steps[index].dependencies = []
      cut += 1
      #expect(throws: DLCError.self, "step \(index)") { try damaged.verifySharing(storage) }
    }
    #expect(cut >= 2)
  }

  /// The stack whose slices start the inner loop lives as long as the outer loop.
  @Test func whatASliceIsPartOfStaysAlive() throws {
    let program = try Compiler().build(try Self.nested(), function: nil, dimensions: [:]).program
    let liveness = Liveness(program, StorageMap(program))
    var outer: LoopInstruction?
    for case .loop(let loop) in program.instructions { outer = loop }
    var starts: [BufferID] = []
    for case .loop(let inner) in try #require(outer).body { starts += inner.carried.map(\.initial) }
    let stack = try #require(starts.first)
    guard case .slice(let base, _) = program[stack].place else {
      Issue.record("the inner loop starts from \(program[stack].place)")
      return
    }
    let last = liveness.events.indices.last { liveness.events[$0].step != nil }!
    #expect(try #require(liveness.ranges[base]).upperBound >= last)
  }
}
