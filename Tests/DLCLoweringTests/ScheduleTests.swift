import DLCGraph
import DLCKernel
import DLCLowering
import DLCPasses
import DLCTensor
import DLCTestSupport
import Testing

/// Schedules as values: what they say is all that lowering follows.
@Suite struct ScheduleTests {
  static let target = LoweringTests.target

  /// Places in the images of a block are 32-bit numbers.
  @Test func transformsAreForImagesThatCanBeCounted() {
    let usual = WinogradTiling.best(depth: 64, channels: 64, height: 56, width: 56)
    #expect(usual?.transform.outputs == 4 && usual?.lines == 14 && usual?.tiles == 14)
    #expect(WinogradTiling.best(depth: 32, channels: 64, height: 4096, width: 4096) != nil)
    #expect(WinogradTiling.best(depth: 64, channels: 64, height: 4096, width: 4096) == nil)
  }

  static func plan(
    by book: ScheduleBook = ScheduleBook(), _ body: @escaping (FunctionBuilder) -> Void
  ) throws -> GraphPlan {
    var module = Module("m")
    try module.function("f", body)
    return GraphPlan(try module.functions[0].graph.bound(to: [:]), target, book)
  }

  /// One of each kind: products, rows, maps, assemblies, routines, convolutions, and a loop's body.
  static func everything(_ g: FunctionBuilder) {
    let x = g.input("x", .float32, [300, 70])
    let w = g.parameter("w", [90, 70])
    let h = g.tanh(g.linear(x, w))
    g.output("y", g.softmax(h))
    g.output("z", g.concatenate([h, g.exponential(h)], axis: 1))
    g.output("s", g.sort([h], axis: 0, keys: 1)[0])
    let image = g.input("image", .float32, [2, 3, 20, 20])
    g.output("c", g.relu(g.convolution(image, g.parameter("k", [8, 3, 3, 3]))))
    let (carried, _) = g.scan(carried: [h], length: 5) { g, c, _ in
      ([g.tanh(g.linear(c[0], g.parameter("u", [90, 90])))], [])
    }
    g.output("r", carried[0])
  }

  static func kernels(_ plan: GraphPlan) -> [Kernel] {
    var kernels: [Kernel] = []
    plan.forEach { kernels += $0.lowered.calls.map(\.kernel) }
    return kernels
  }

  @Test func textGivesTheSameKernels() throws {
    let plan = try Self.plan(Self.everything)
    for alternatives in [false, true] {
      let text = plan.schedules(Self.target, alternatives: alternatives)
      let book = try ScheduleBook(text: text, at: "text")
      #expect(book.schedules.count >= 6)
      let again = try Self.plan(by: book, Self.everything)
      #expect(Self.kernels(again) == Self.kernels(plan))
      #expect(book.ignored(by: again, Self.target).isEmpty)
      for schedule in book.schedules.values {
        #expect(RegionSchedule(text: schedule.text) == schedule)
      }
    }
  }

  /// Whatever legal schedule is taken, kernels are sound; another one is another kernel.
  @Test func everyLegalScheduleIsSound() throws {
    let plan = try Self.plan(Self.everything)
    var taken = 0
    var problems: [Problem] = []
    plan.forEach { problems.append($0.problem) }
    for problem in Set(problems) {
      for candidate in problem.candidates(Self.target) where candidate.obstacle == nil {
        var book = ScheduleBook()
        book.add(candidate.schedule, for: problem)
        let other = try Self.plan(by: book, Self.everything)
        var found: RegionSchedule?
        other.forEach { if $0.problem == problem { found = $0.schedule } }
        #expect(found == candidate.schedule)
        #expect(Self.kernels(other).allSatisfy { $0.violations().isEmpty }, "\(candidate)")
        taken += 1
      }
    }
    #expect(taken > problems.count)
  }

  @Test func whatCannotBeTakenIsSaid() throws {
    let plan = try Self.plan(Self.everything)
    var book = ScheduleBook()
    var steady: Problem?
    plan.forEach { if case .contraction(let p) = $0.problem, p.isSteady { steady = $0.problem } }
    let problem = try #require(steady)
    let illegal = try #require(problem.candidates(Self.target).first { $0.obstacle != nil })
    book.add(illegal.schedule, for: problem)
    let other = try Self.plan(by: book, Self.everything)
    #expect(Self.kernels(other) == Self.kernels(plan))
    let reasons = book.ignored(by: other, Self.target)
    #expect(
      reasons.count == 1 && reasons[0].contains("an operand that never changes is packed once"))
    #expect(throws: DLCError.self) {
      try ScheduleBook(text: "problem x\n  take contraction {}\n", at: "file")
    }
    #expect(throws: DLCError.self) { try ScheduleBook(text: "take control", at: "file") }
  }

  /// Prices follow sizes.
  @Test func moreCostsMore() throws {
    let model = CostModel(Self.target)
    var last = 0.0
    for size in [16, 64, 256, 1024] {
      let plan = try Self.plan { g in
        let x = g.input("x", .float32, [Size(size), 128])
        g.output("y", g.softmax(g.tanh(g.linear(x, g.parameter("w", [64, 128])))))
      }
      let price = Self.kernels(plan).reduce(0) { $0 + model.price($1).total }
      #expect(price > last)
      last = price
    }
  }
}
