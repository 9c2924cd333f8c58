import DLCCompiler
import DLCGraph
import DLCRuntime
import DLCTensor
import Dispatch
import Synchronization
import Testing

/// State that is set while runs are under way.
@Suite struct StateTests {
  private final class Failures: Sendable {
    private let list = Mutex<[String]>([])
    func add(_ text: String) { list.withLock { $0.append(text) } }
    var all: [String] { list.withLock { $0 } }
  }

  /// Two states that every run moves alike: one in place, one that something reads later.
  static func executable() throws -> Executable {
    var module = Module("pair")
    try module.function("f") { g in
      let a = g.state("a", .float32, [512])
      let b = g.state("b", .float32, [64, 64])
      let ones = g.constant(1, .float32, [64, 64])
      // Long enough for others to come between.
      var x = g.matmul(b, ones)
      for _ in 0..<4 { x = g.tanh(g.matmul(x, ones)) }
      g.output("a", a)
      g.output("b", b)
      g.output("work", g.mean(x, axes: [0, 1]))
      g.update("a", a + 1)
      g.update("b", b + 1)
    }
    let executable = try Compiler().compile(module)
    try executable.initializeState(seed: 0)
    return executable
  }

  static func filled(_ value: Double) -> [String: Tensor] {
    [
      "a": Tensor(splat: value, .float32, [512]), "b": Tensor(splat: value, .float32, [64, 64]),
    ]
  }

  /// Whatever the order of runs and settings, every run sees one state: both values whole and of the same
  /// setting, moved by whole runs.
  @Test func settingsAndRunsFollowOneAnother() throws {
    let executable = try Self.executable()
    let failures = Failures()
    let setters = 2, runners = 3
    // Threads of their own: runs wait for helpers that Dispatch lends.
    DispatchQueue.concurrentPerform(iterations: setters + runners) { worker in
      do throws(DLCError) {
        for round in 0..<40 {
          if worker < setters {
            try executable.setState(Self.filled(Double((worker * 40 + round) * 1000)))
            continue
          }
          let results = try executable.run([:], threads: 1 + worker % 2)
          let (a, b) = (results[0].value.doubles, results[1].value.doubles)
          if !a.allSatisfy({ $0 == a[0] }) || !b.allSatisfy({ $0 == a[0] }) {
            failures.add("a run sees \(Set(a)) and \(Set(b))")
          }
          let state = executable.state
          let (c, d) = (state["a"]!.doubles, state["b"]!.doubles)
          if !c.allSatisfy({ $0 == c[0] }) || !d.allSatisfy({ $0 == c[0] }) {
            failures.add("the state is \(Set(c)) and \(Set(d))")
          }
        }
      } catch { failures.add("\(error)") }
    }
    #expect(failures.all == [])
    // What was set last is what later runs begin from.
    let values = Self.filled(7)
    try executable.setState(values)
    _ = try executable.run([:])
    #expect(executable.state["a"]!.doubles.allSatisfy { $0 == 8 })
    #expect(executable.state["b"]!.doubles.allSatisfy { $0 == 8 })
    // The caller's arrays stay as they are.
    #expect(values == Self.filled(7))
  }

  /// A setting is never lost to a run that was under way.
  @Test func aSettingIsNotOverwritten() throws {
    let executable = try Self.executable()
    for round in 1...25 {
      let group = DispatchGroup()
      DispatchQueue.global().async(group: group) { _ = try? executable.run([:]) }
      try executable.setState(Self.filled(Double(round * 100)))
      group.wait()
      let (a, b) = (executable.state["a"]!.doubles[0], executable.state["b"]!.doubles[0])
      #expect(a == b && (a == Double(round * 100) || a == Double(round * 100 + 1)))
    }
  }
}
