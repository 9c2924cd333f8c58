import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
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
    let setters = 2
    let runners = 3
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

  /// Functions that keep, move, exchange and show values of their state, drawn anew in every run: whoever
  /// reads a state reads its value before the run, though the next one may take its place.
  @Test func readersSeeTheValueBeforeTheRun() throws {
    for _ in 0..<60 {
      let seed = UInt64.random(in: 0...UInt64.max)
      let module = try Self.random(seed)
      let function = try #require(module.function("f"))
      let executables = try [1, 2].map { _ in try Compiler().compile(module) }
      var state: [String: Tensor] = [:]
      for (index, entry) in module.states.enumerated() {
        let numbers = (0..<entry.type.elementCount).map { Int64(($0 + 3 * index) % 50) }
        state[entry.name] =
          entry.type.dataType == .float32
          ? Tensor(entry.type.dataType, entry.type.sizes, rounding: numbers.map { Double($0) })
          : Tensor(entry.type.dataType, entry.type.sizes, truncating: numbers)
      }
      for executable in executables {
        let used = Set(executable.states.map(\.name))
        try executable.setState(state.filter { used.contains($0.key) })
      }
      for run in 0..<3 {
        let (wanted, updates) = try Interpreter().run(
          module, function: function, inputs: [:], states: state, dimensions: [:])
        state.merge(updates) { $1 }
        for (executable, threads) in zip(executables, [1, 2]) {
          let got = try executable.run([:], threads: threads)
          let isSame =
            got.elementsEqual(wanted) { $0.name == $1.name && $0.value.doubles == $1.value.doubles }
            && executable.state.allSatisfy { $0.value.doubles == state[$0.key]?.doubles }
          #expect(isSame, "seed \(seed), run \(run), \(threads) threads:\n\(module.text)")
          if !isSame { return }
        }
      }
    }
  }

  /// A function over a few states of one type and size. Numbers stay whole, so that all orders of sums
  /// give the same.
  private static func random(_ seed: UInt64) throws -> Module {
    var draw = Choices(seed: seed)
    let (type, size) = ([DataType.float32, .int32][draw.next(2)], [1, 4, 60, 5000][draw.next(4)])
    var module = Module("random")
    try module.function("f") { g in
      let states = (0..<2 + draw.next(3)).map { g.state("s\($0)", type, [Size(size)]) }
      func value() -> Value {
        let s = states[draw.next(states.count)]
        switch draw.next(8) {
        case 0, 1: return s
        case 2: return s + g.constant(1, type)
        case 3: return g.maximum(s, states[draw.next(states.count)])
        case 4 where size > 1:
          return g.reshape(g.reshape(s, [2, Size(size / 2)]), [Size(size)])
        case 5 where size > 1:
          let half = Size(size / 2)
          return g.concatenate(
            [
              g.slice(s, axis: 0, from: half, to: Size(size)),
              g.slice(states[draw.next(states.count)], axis: 0, from: 0, to: half),
            ], axis: 0)
        case 6: return g.reverse(s, axes: [0])
        default: return s - states[draw.next(states.count)]
        }
      }
      let shown = (0..<draw.next(3)).map { _ in value() }
      for (index, state) in states.enumerated() where draw.next(4) > 0 || index == 0 {
        g.update("s\(index)", draw.next(2) == 0 ? state + g.constant(1, type) : value())
      }
      for (index, result) in shown.enumerated() { g.output("y\(index)", result) }
    }
    return module
  }
}
