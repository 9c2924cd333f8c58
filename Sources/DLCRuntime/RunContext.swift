import DLCProgram
import DLCTensor

extension Executable {
  /// The memory of one run at a time.
  final class Context: @unchecked Sendable {
    // Held by one run; the executor's workers only read it.
    let workers: Int
    private let program: Program
    private let instructions: [Instruction]
    private let arena: Area
    private let scratch: [Area]
    private let scratchPointers: [UnsafeMutableRawPointer?]
    private let arguments: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    private let bindings: [BufferID]
    /// For each loop the arguments that change from iteration to iteration.
    private let moving: [[Int]]
    private let steps: [BoundStep]
    private let executor: Executor
    /// Seconds by step, when they are asked for.
    var times: [Double]?
    /// How far the loop that carries the state goes.
    var extent: Extent?
    private let stateLoop: Int?
    // The present run.
    private var pointers: [UnsafeMutableRawPointer?]
    /// For each loop: how many iterations are done, and which slices it is at.
    private var iterations: [(done: Int, slice: Int)]

    init(
      _ executable: Executable, _ list: [Step], _ instructions: [Instruction], arenaBytes: Int,
      workers: Int
    ) throws(DLCError) {
      self.workers = workers
      self.instructions = instructions
      program = executable.program
      stateLoop = program.stateLoop
      arena = try Area(arenaBytes)
      var scratch: [Area] = []
      for _ in 0..<workers { scratch.append(try Area(program.scratchBytes)) }
      self.scratch = scratch
      scratchPointers = scratch.map { $0.base }
      bindings = list.flatMap(\.buffers)
      arguments = .allocate(capacity: max(bindings.count, 1))
      var offset = 0
      var bound: [BoundStep] = []
      for step in list {
        var made = BoundStep(
          arguments: UnsafePointer(arguments + offset), tileCount: step.tileCount,
          dependencies: step.dependencies.map(\.index))
        switch step.kind {
        case .kernel(let id):
          made.code = UnsafeRawPointer(executable.code.base! + program.kernels[id.index].offset)
        case .hostCall(let id):
          made.hostCall = BoundHostCall(
            executable.hostFunctions[id.index], program.hostFunctions[id.index].operands)
        }
        bound.append(made)
        offset += step.buffers.count
      }
      steps = bound
      executor = Executor(stepCount: list.count, workers: workers)
      pointers = [UnsafeMutableRawPointer?](repeating: nil, count: program.buffers.count)
      iterations = [(done: Int, slice: Int)](repeating: (0, 0), count: program.loopCount)
      var moving = [[Int]](repeating: [], count: program.loopCount)
      let storage = StorageMap(program)
      for (argument, buffer) in bindings.enumerated() {
        for loop in storage.loops(of: buffer) { moving[loop].append(argument) }
      }
      self.moving = moving
    }

    deinit { arguments.deallocate() }

    /// What is done in `body`, tile by tile.
    func traced(_ body: () throws(DLCError) -> Void) throws(DLCError) -> [TileEvent] {
      let recorder = EventRecorder(workers: workers)
      executor.recorder = recorder
      defer { executor.recorder = nil }
      try body()
      return recorder.events
    }

    func run(
      _ inputs: [UnsafeMutableRawPointer?], _ outputs: [UnsafeMutableRawPointer?],
      _ states: [TensorStorage],
      _ nextStates: [TensorStorage], _ prepared: TensorStorage, _ constants: TensorStorage
    ) {
      for index in program.buffers.indices {
        pointers[index] =
          switch program.buffers[index].place {
          case .input(let i): inputs.isEmpty ? nil : inputs[i]
          case .output(let i): outputs.isEmpty ? nil : outputs[i]
          case .state(let i): states[i].bytes.baseAddress
          case .nextState(let i): nextStates[i].bytes.baseAddress
          case .constant(let o): constants.bytes.baseAddress.map { $0 + o }
          case .prepared(let o): prepared.bytes.baseAddress.map { $0 + o }
          case .arena(let o): arena.base + o
          case .slice, .alternating: nil
          }
      }
      for (argument, buffer) in bindings.enumerated() { arguments[argument] = pointer(buffer) }
      execute(instructions)
    }

    private func pointer(_ id: BufferID) -> UnsafeMutableRawPointer? {
      switch program.buffers[id.index].place {
      case .slice(let base, let loop):
        pointer(base).map { $0 + iterations[loop].slice * program.buffers[id.index].byteCount }
      case .alternating(let even, let odd, let loop, let next):
        pointer((iterations[loop].done + (next ? 1 : 0)) % 2 == 0 ? even : odd)
      default: pointers[id.index]
      }
    }

    private func execute(_ list: [Instruction]) {
      for instruction in list {
        switch instruction {
        case .run(let range):
          if times == nil {
            executor.run(steps, range, scratch: scratchPointers)
          } else {
            for index in range { timed(index) }
          }
        case .branch(let predicate, let then, let otherwise):
          execute(isTrue(predicate) ? then : otherwise)
        case .loop(let loop): run(loop)
        }
      }
    }

    private func timed(_ index: Int) {
      let start = ContinuousClock.now
      executor.run(steps, index..<index + 1, scratch: scratchPointers)
      let passed = (ContinuousClock.now - start).components
      times![index] += Double(passed.seconds) + Double(passed.attoseconds) * 1e-18
    }

    private func isTrue(_ buffer: BufferID) -> Bool {
      pointer(buffer)!.load(as: UInt8.self) != 0
    }

    private func run(_ loop: LoopInstruction) {
      for carried in loop.carried { copy(carried.initial, carried.even) }
      var done = 0
      let extent = loop.id == stateLoop ? extent : nil
      let count = extent.map { min($0.iterations, loop.count ?? .max) } ?? loop.count
      while count.map({ done < $0 }) ?? true {
        if let isStopped = extent?.isStopped, isStopped() { break }
        iterations[loop.id] = (done, loop.reverse ? (loop.count ?? 0) - 1 - done : done)
        for argument in moving[loop.id] { arguments[argument] = pointer(bindings[argument]) }
        if let predicate = loop.predicate {
          execute(loop.condition)
          if !isTrue(predicate) { break }
        }
        execute(loop.body)
        done += 1
      }
      for carried in loop.carried {
        copy(done % 2 == 0 ? carried.even : carried.odd, carried.result)
      }
      iterations[loop.id] = (0, 0)
    }

    private func copy(_ from: BufferID, _ to: BufferID) {
      let bytes = program.buffers[from.index].byteCount
      guard bytes > 0, let source = pointer(from), let target = pointer(to), source != target else {
        return
      }
      target.copyMemory(from: source, byteCount: bytes)
    }
  }
}

extension Program {
  /// The loop outside all others whose carried values become the most state.
  fileprivate var stateLoop: Int? {
    var best: (id: Int, count: Int)?
    for case .loop(let loop) in instructions {
      let count = loop.carried.count {
        switch self[$0.result].place {
        case .state, .nextState: true
        default: false
        }
      }
      if count > best?.count ?? 0 { best = (loop.id, count) }
    }
    return best?.id
  }
}
