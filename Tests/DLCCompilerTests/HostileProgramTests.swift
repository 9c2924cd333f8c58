import DLCCompiler
import DLCFormats
import DLCGraph
import DLCProgram
import DLCRuntime
import DLCTensor
import DLCTestSupport
import DLCZoo
import Foundation
import Testing

/// Programs with a valid digest whose numbers are not those of a program that dlc made. The kernels
/// themselves, with what they say of their operands, are machine code and are trusted.
@Suite struct HostileProgramTests {
  struct Sample: Sendable {
    var program: Program
    var constants: [UInt8]
    var code: [UInt8]
    var states: [String: Tensor]

    init(_ module: Module, _ dimensions: [String: Int] = [:]) throws {
      let build = try Compiler().build(module, function: nil, dimensions: dimensions)
      try build.executable.initializeState(seed: 1)
      program = build.program
      constants = build.constants
      code = build.code
      states = build.executable.state
    }

    func bytes(_ program: Program) -> [UInt8] {
      ProgramFile.encode(
        program, constants: constants, prepared: nil, code: code, states: states, module: [])
    }

    /// Writes a changed program with a right digest, and reads it as a user does.
    func load(_ program: Program) throws(DLCError) -> Executable {
      let path = ProgramTests.temporary() + ".dlc"
      defer { try? FileManager.default.removeItem(atPath: path) }
      #expect(FileManager.default.createFile(atPath: path, contents: Data(bytes(program))))
      return try Executable(contentsOf: path)
    }
  }

  /// A loop in a loop with slices, carried values and a branch, state, and weights that are prepared.
  static func looping() throws -> Module {
    var module = Module("looping")
    try module.function("f") { g in
      let x = g.input("x", .float32, [6, 4, 8])
      let w = g.parameter("w", [8, 8], .normal(mean: 0, deviation: 0.3))
      let total = g.state("total", .float32, [8])
      let (c, s) = g.scan(carried: [total], inputs: [x]) { g, c, s in
        let (inner, _) = g.scan(carried: [c[0]], inputs: [s[0]]) { g, c, s in
          ([g.tanh(c[0] + g.linear(s[0], w))], [])
        }
        let chosen = g.cond(
          g.compare(.less, g.max(inner[0], axes: [0]), g.constant(0, .float32))
        ) { g in
          [g.sort([inner[0]])[0]]
        } otherwise: { g in
          [g.tanh(inner[0] * inner[0])]
        }
        return (chosen, [chosen[0]])
      }
      g.output("y", s[0])
      g.update("total", c[0])
    }
    return module
  }

  static let looped = Result { try Sample(try looping()) }
  static let classifier = Result {
    try Sample(try Zoo.model("digits_cnn")!.module(), ["n": 3])
  }

  /// The first loop, changed; loops inside it are reached by `depth`.
  static func loop(
    _ program: inout Program, depth: Int = 0, _ change: (inout LoopInstruction) -> Void
  ) {
    func follow(_ list: inout [Instruction], _ depth: Int) -> Bool {
      for index in list.indices {
        guard case .loop(var loop) = list[index] else { continue }
        if depth == 0 { change(&loop) } else if !follow(&loop.body, depth - 1) { continue }
        list[index] = .loop(loop)
        return true
      }
      return false
    }
    #expect(follow(&program.instructions, depth))
  }

  static func first(_ program: Program, _ matches: (BufferSlot.Place) -> Bool) -> Int {
    program.buffers.firstIndex { matches($0.place) }!
  }

  static let damages: [(name: String, change: @Sendable (inout Program) -> Void)] = [
    ("operands too few", { $0.steps[0].buffers.removeLast() }),
    ("operands too many", { $0.steps[0].buffers.append(BufferID(0)) }),
    (
      "one buffer for all",
      { p in
        let step = p.steps.firstIndex { $0.buffers.count > 1 }!
        p.steps[step].buffers = [p.steps[step].buffers[0]]
      }
    ),
    ("tiles", { $0.steps[0].tileCount = 1 << 40 }), ("no tiles", { $0.steps[0].tileCount = 0 }),
    ("fewer tiles than none", { $0.steps[0].tileCount = -1 }),
    ("tiles of the kernel", { $0.kernels[0].tileCount = 1 << 50 }),
    (
      "an operand larger than its buffer",
      { p in
        let step = p.steps.firstIndex { !$0.buffers.isEmpty }!
        let kernel = p.steps[step].kernel!.index
        for i in p.kernels[kernel].operands.indices {
          p.kernels[kernel].operands[i].byteCount += 1 << 30
        }
      }
    ),
    (
      "a buffer smaller than the kernel takes it",
      { p in
        let id = p.steps[0].buffers.first { p[$0].byteCount > 4 }!
        p.buffers[id.index].shape = [0]
      }
    ),
    (
      "an input that is written",
      { p in
        let input = first(p) { if case .input = $0 { true } else { false } }
        let state = first(p) {
          if case .nextState = $0 { true } else if case .arena = $0 { true } else { false }
        }
        p.buffers[state].place = p.buffers[input].place
      }
    ),
    (
      "an arena beyond its end",
      { p in
        let i = first(p) { if case .arena = $0 { true } else { false } }
        p.buffers[i].place = .arena(p.arenaBytes)
      }
    ),
    (
      "a value larger than the result that it lies in",
      { p in
        let i = first(p) { if case .arena = $0 { true } else { false } }
        p.buffers[i].shape = [1 << 10]
        p.buffers[i].place = .output(0)
      }
    ),
    ("an arena that is too small", { $0.arenaBytes = 0 }),
    (
      "a state that there is not",
      { p in
        let i = first(p) { if case .state = $0 { true } else { false } }
        p.buffers[i].place = .state(p.states.count)
      }
    ),
    (
      "a negative state",
      { p in
        let i = first(p) { if case .state = $0 { true } else { false } }
        p.buffers[i].place = .state(-1)
      }
    ),
    ("a state of another type", { $0.states[0].shape.append(2) }),
    ("a slice beyond its stack", { p in loop(&p) { $0.count = $0.count! + 1 } }),
    ("an inner slice beyond its stack", { p in loop(&p, depth: 1) { $0.count = 1 << 39 } }),
    (
      "a slice of itself",
      { p in
        let i = first(p) { if case .slice = $0 { true } else { false } }
        p.buffers[i].place = .slice(BufferID(i), loop: 0)
      }
    ),
    (
      "a slice outside its loop",
      { p in
        let index = p.instructions.firstIndex { if case .loop = $0 { true } else { false } }!
        guard case .loop(let loop) = p.instructions[index] else { return }
        p.instructions.replaceSubrange(index...index, with: loop.body)
      }
    ),
    (
      "a slice larger than its stack",
      { p in
        let i = first(p) { if case .slice = $0 { true } else { false } }
        p.buffers[i].shape.append(1000)
      }
    ),
    (
      "loops of one number",
      { p in
        var outer = 0
        loop(&p) { outer = $0.id }
        loop(&p, depth: 1) { $0.id = outer }
      }
    ),
    (
      "turns chained 40 deep",
      { p in
        var turns = first(p) { if case .alternating = $0 { true } else { false } }
        guard case .alternating(_, _, let loop, _) = p.buffers[turns].place else { return }
        for _ in 0..<40 {
          let last = BufferID(turns)
          p.buffers.append(
            BufferSlot(
              p[last].type, p[last].shape, .alternating(last, last, loop: loop, next: false)))
          turns = p.buffers.count - 1
        }
      }
    ),
    (
      "turns chained 100000 deep",
      { p in
        var turns = first(p) { if case .alternating = $0 { true } else { false } }
        p.loopCount = 100_000
        for loop in 2..<100_000 {
          let last = BufferID(turns)
          p.buffers.append(
            BufferSlot(
              p[last].type, p[last].shape, .alternating(last, last, loop: loop, next: false)))
          turns = p.buffers.count - 1
        }
      }
    ),
    (
      "a carried value that cannot be written",
      { p in
        let input = first(p) { if case .input = $0 { true } else { false } }
        var even = BufferID(0)
        loop(&p) {
          even = $0.carried[0].even
          $0.carried[0].result = BufferID(input)
        }
        p.buffers[input].shape = [p[even].byteCount / 4]
      }
    ),
    ("a kernel inside of another", { p in p.kernels[0].offset += 16 }),
    ("a kernel that is another", { p in p.kernels[0].name = p.kernels[1].name }),
    ("a kernel beyond the code", { $0.kernels[0].offset = 1 << 30 }),
    (
      "functions one over the other",
      { p in
        let range = p.symbols[0].range
        p.symbols[0].range = range.lowerBound..<range.upperBound + 4096
      }
    ),
    ("scratch", { p in p.kernels[0].scratchBytes = p.scratchBytes + 1 }),
    ("a step before its data", { $0.steps[1].dependencies = [StepID(5)] }),
    (
      "work beyond all numbers",
      { p in
        for i in p.steps.indices { p.steps[i].flops = Int.max }
      }
    ),
    (
      "preparation from an input",
      { p in
        let input = first(p) { if case .input = $0 { true } else { false } }
        var step = p.steps[0]
        step.buffers = step.buffers.map { _ in BufferID(input) }
        step.dependencies = []
        p.preparation.append(step)
      }
    ),
  ]

  @Test(arguments: damages.indices) func damageIsFoundAtLoad(_ index: Int) throws {
    let sample = try Self.looped.get()
    _ = try sample.load(sample.program)
    var program = sample.program
    Self.damages[index].change(&program)
    let name = Self.damages[index].name
    let isChanged = program != sample.program
    #expect(isChanged, "\(name)")
    let start = ContinuousClock.now
    var found: DLCError?
    do throws(DLCError) { _ = try sample.load(program) } catch { found = error }
    guard let error = found else {
      Issue.record("'\(name)' is not refused")
      return
    }
    #expect(error.code == .format || error.code == .type, "\(error)")
    #expect("\(error)".contains(".dlc"), "\(error)")
    let seconds = ContinuousClock.now - start
    #expect(seconds < .seconds(20), "\(name)")
  }

  /// Every byte of a file is under its digest: what is used, and what stands in between.
  @Test func everyFlippedBitIsFound() throws {
    let sample = try Self.looped.get()
    let bytes = sample.bytes(sample.program)
    let path = ProgramTests.temporary() + ".dlc"
    defer { try? FileManager.default.removeItem(atPath: path) }
    func refused(_ bytes: [UInt8]) throws -> Bool {
      #expect(FileManager.default.createFile(atPath: path, contents: Data(bytes)))
      do { _ = try ProgramFile.read(path) } catch { return true }
      return false
    }
    #expect(try !refused(bytes))
    for position in Array(0..<40) + Array(stride(from: 40, to: bytes.count, by: 211)) {
      var copy = bytes
      copy[position] ^= 1 << UInt8(position % 8)
      #expect(try refused(copy), "byte \(position)")
    }
    #expect(try refused(bytes + [0]))
    #expect(try refused(Array(bytes.dropLast())))
    // Files of other versions say what to do.
    var old = bytes
    old[7] = 1
    try OutputFile.write(old, to: path)
    let error = #expect(throws: DLCError.self) { try ProgramFile.read(path) }
    #expect(error?.code == .unsupported && error?.remedy == "compile the model again")
  }

  /// Numbers of all kinds in all places: an error, or a program that runs within its memory.
  /// `DLC_FUZZ_ROUNDS` asks for more of it.
  @Test(arguments: [0, 1]) func changedNumbersNeverTrap(_ which: Int) throws {
    let sample = try (which == 0 ? Self.looped : Self.classifier).get()
    let wanted = ProcessInfo.processInfo.environment["DLC_FUZZ_ROUNDS"].flatMap { Int($0) }
    let rounds = wanted ?? 500
    let seed = wanted == nil ? UInt64(which) : UInt64.random(in: 0...UInt64.max)
    var random = Numbers(state: seed)
    var (refused, ran) = (0, 0)
    for round in 0..<rounds {
      var program = sample.program
      for _ in 0...random.below(2) { random.change(&program) }
      do throws(DLCError) {
        let executable = try sample.load(program)
        guard Self.work(program.instructions) <= 10_000 else { continue }
        let size = (executable.inputs + executable.outputs).reduce(0) {
          $0 + $1.type.elementCount
        }
        guard size < 1 << 20, program.arenaBytes < 1 << 26, program.scratchBytes < 1 << 26 else {
          continue
        }
        var inputs: [String: Tensor] = [:]
        for input in executable.inputs {
          inputs[input.name] = Tensor(zeros: input.type.dataType, input.type.sizes)
        }
        try executable.initializeState(seed: 1)
        _ = try executable.run(inputs, threads: 2)
        ran += 1
      } catch { refused += 1 }
      #expect(round < rounds)
    }
    #expect(refused > rounds / 3 && ran > rounds / 50, "seed \(seed): \(refused), \(ran)")
  }

  /// How often steps run.
  static func work(_ list: [Instruction]) -> Int {
    list.reduce(0) { sum, instruction in
      switch instruction {
      case .run(let range): sum + range.count
      case .branch(_, let a, let b): sum + max(work(a), work(b))
      case .loop(let loop):
        min(1 << 40, sum + min(1 << 20, loop.count ?? 1 << 20) * min(1 << 20, work(loop.body) + 1))
      }
    }
  }

  struct Numbers {
    private var random: SplitMix
    init(state: UInt64) { random = SplitMix(state: state) }
    mutating func next() -> UInt64 { random.next() }

    mutating func below(_ count: Int) -> Int { Int(next() % UInt64(max(count, 1))) }

    /// A number that may be in the place of another.
    mutating func number(_ old: Int) -> Int {
      switch below(12) {
      case 0: return -1
      case 1: return 0
      case 2: return old &+ 1
      case 3: return old &- 1
      case 4: return old &+ 64
      case 5: return old &- 64
      case 6: return old &* 2
      case 7: return 1 << below(41)
      case 8: return below(2) == 0 ? Int.max : Int.min
      default: return below(40)
      }
    }

    /// Files hold the numbers of buffers and steps in 32 bits without a sign.
    mutating func identifier(_ old: Int) -> Int { number(old) & 0xffff_ffff }

    mutating func buffer(_ program: Program) -> BufferID {
      BufferID(below(10) == 0 ? identifier(program.buffers.count) : below(program.buffers.count))
    }

    mutating func change(_ program: inout Program) {
      let step = below(program.steps.count)
      let id = below(program.buffers.count)
      switch below(20) {
      case 0, 1:
        let count = program.steps[step].buffers.count
        if count > 0 { program.steps[step].buffers[below(count)] = buffer(program) }
      case 2: program.steps[step].buffers.append(buffer(program))
      case 3: program.steps[step].tileCount = number(program.steps[step].tileCount)
      case 4:
        let kernel = KernelID(below(program.kernels.count + 1))
        program.steps[step].kind = below(4) == 0 ? .hostCall(HostFunctionID(0)) : .kernel(kernel)
      case 5: program.steps[step].dependencies = [StepID(identifier(step))]
      case 6, 7: program.buffers[id].place = place(program)
      case 8:
        if program.buffers[id].shape.isEmpty {
          program.buffers[id].shape = [number(1)]
        } else {
          let axis = below(program.buffers[id].shape.count)
          program.buffers[id].shape[axis] = number(program.buffers[id].shape[axis])
        }
      case 9: program.buffers[id].type = DataType.allCases[below(DataType.allCases.count)]
      case 10: program.arenaBytes = number(program.arenaBytes)
      case 11: program.preparedBytes = number(program.preparedBytes)
      case 12: program.scratchBytes = number(program.scratchBytes)
      case 13: program.loopCount = number(program.loopCount)
      case 14:
        let kernel = below(program.kernels.count)
        program.kernels[kernel].offset = number(program.kernels[kernel].offset)
      case 15:
        if !program.states.isEmpty {
          let state = below(program.states.count)
          switch below(3) {
          case 0: program.states[state].isUpdated.toggle()
          case 1: program.states[state].shape.append(number(1))
          default: program.states[state].initializerArguments = [-1e300, 1e300]
          }
        }
      case 16:
        if below(2) == 0 {
          program.inputs[0].buffer = buffer(program)
        } else {
          program.outputs[0].buffer = buffer(program)
        }
      case 17: program.preparation += [program.steps[step]]
      default: change(&program.instructions, program)
      }
    }

    private mutating func place(_ program: Program) -> BufferSlot.Place {
      let number = number(below(4) * 64)
      switch below(9) {
      case 0: return .input(number)
      case 1: return .output(number)
      case 2: return .state(number)
      case 3: return .nextState(number)
      case 4: return .constant(number)
      case 5: return .prepared(number)
      case 6: return .arena(number)
      case 7: return .slice(buffer(program), loop: below(3))
      default:
        return .alternating(
          buffer(program), buffer(program), loop: below(3), next: below(2) == 0)
      }
    }

    private mutating func change(_ list: inout [Instruction], _ program: Program) {
      guard !list.isEmpty else { return }
      let index = below(list.count)
      switch list[index] {
      case .run(let range):
        let start = max(0, min(1 << 40, number(range.lowerBound)))
        list[index] = .run(start..<start + max(0, min(1 << 40, number(range.count))))
      case .branch(let predicate, var then, var otherwise):
        switch below(3) {
        case 0: list[index] = .branch(buffer(program), then: then, otherwise: otherwise)
        case 1:
          change(&then, program)
          list[index] = .branch(predicate, then: then, otherwise: otherwise)
        default:
          change(&otherwise, program)
          list[index] = .branch(predicate, then: otherwise, otherwise: then)
        }
      case .loop(var loop):
        switch below(9) {
        case 0: loop.id = number(loop.id)
        case 1: loop.count = number(loop.count ?? 0)
        case 2: loop.reverse.toggle()
        case 3: if !loop.carried.isEmpty { loop.carried[0].initial = buffer(program) }
        case 4: if !loop.carried.isEmpty { loop.carried[0].even = buffer(program) }
        case 5: if !loop.carried.isEmpty { loop.carried[0].result = buffer(program) }
        case 6: loop.carried.removeAll()
        default: change(&loop.body, program)
        }
        list[index] = .loop(loop)
      }
    }
  }
}
