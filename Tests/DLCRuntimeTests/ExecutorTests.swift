import DLCProgram
import DLCTensor
import Dispatch
import Foundation
import Synchronization
import Testing

@testable import DLCRuntime

/// The runtime without compiler and without LLVM: programs of a few machine instructions.
@Suite struct ExecutorTests {
  /// p0[tile] = tile as int32.
  static var mark: [UInt8] {
    #if arch(x86_64)
      [0x48, 0x8B, 0x07, 0x89, 0x34, 0xB0, 0xC3]
    #else
      [0x03, 0x00, 0x40, 0xF9, 0x61, 0x78, 0x21, 0xB8, 0xC0, 0x03, 0x5F, 0xD6]
    #endif
  }

  static func mark(_ tiles: Int) -> KernelEntry {
    KernelEntry(
      "mark", 0, tileCount: tiles,
      operands: [OperandAccess(tiles * 4, isWritten: true)])
  }

  static func program(steps: Int, tiles: Int) -> Program {
    var program = Program()
    program.kernels = [mark(tiles), mark(1)]
    program.symbols = [CodeSymbol("mark", 0..<mark.count)]
    for index in 0..<steps {
      program.buffers.append(BufferSlot(.int32, [tiles], .output(index)))
      program.outputs.append(Port("y\(index)", BufferID(index)))
      program.steps.append(
        Step(
          .kernel(KernelID(index % 3 == 2 ? 1 : 0)), buffers: [BufferID(index)],
          tileCount: index % 3 == 2 ? 1 : tiles,
          dependencies: index == 0 ? [] : [StepID(index - 1)], name: "mark", flops: 0, bytesMoved: 0
        ))
    }
    program.instructions = [.run(0..<steps)]
    return program
  }

  /// Loops write their slices forwards and backwards; a carried value changes hands every time.
  @Test(arguments: [1, 2]) func loopsWalkTheirSlices(_ threads: Int) throws {
    var program = Program()
    program.kernels = [Self.mark(5)]
    program.symbols = [CodeSymbol("mark", 0..<Self.mark.count)]
    program.buffers = [
      BufferSlot(.int32, [3, 2, 5], .output(0)),
      BufferSlot(.int32, [2, 5], .slice(BufferID(0), loop: 0)),
      BufferSlot(.int32, [5], .slice(BufferID(1), loop: 1)),
    ]
    program.outputs = [Port("y", BufferID(0))]
    program.loopCount = 2
    program.steps = [
      Step(
        .kernel(KernelID(0)), buffers: [BufferID(2)], tileCount: 5, dependencies: [], name: "mark",
        flops: 0, bytesMoved: 0)
    ]
    func loop(_ id: Int, _ count: Int, _ body: [Instruction]) -> Instruction {
      .loop(
        LoopInstruction(
          id: id, count: count, reverse: id == 1, predicate: nil, condition: [], carried: [],
          body: body))
    }
    program.instructions = [loop(0, 3, [loop(1, 2, [.run(0..<1)])])]
    let results = try Self.executable(program).run([:], threads: threads)
    #expect(results[0].value.integers == (0..<30).map { Int64($0 % 5) })
    program.instructions = [loop(0, 4, [loop(1, 2, [.run(0..<1)])])]
    #expect(throws: DLCError.self) { try Self.executable(program) }
    program.instructions = [loop(0, 3, [loop(0, 2, [.run(0..<1)])])]
    #expect(throws: DLCError.self) { try Self.executable(program) }
  }

  static func executable(_ program: Program) throws -> Executable {
    let code = try mark.withUnsafeBytes { try CodeMemory($0) }
    return try Executable(
      program, code: code, constants: TensorStorage(byteCount: 0), prepared: nil, states: [:])
  }

  @Test(arguments: [1, 2, 3, 8])
  func everyTileRunsOnce(_ threads: Int) throws {
    let executable = try Self.executable(Self.program(steps: 40, tiles: 57))
    for _ in 0..<200 {
      let results = try executable.run([:], threads: threads)
      for (index, result) in results.enumerated() {
        let count = index % 3 == 2 ? 1 : 57
        #expect(Array(result.value.integers.prefix(count)) == (0..<Int64(count)).map { $0 })
      }
    }
  }

  /// However a run's start meets the end of a helper's stay, the helper goes back to Dispatch after it:
  /// an executor that nobody uses is freed. (One that spins for ever holds it, and a core.)
  @Test func helpersLeave() throws {
    let code = try Self.mark.withUnsafeBytes { try CodeMemory($0) }
    // More workers than processors: helpers come late, into the end of a run or the start of the next.
    let last = Mutex<[WeakExecutor]>([])
    DispatchQueue.concurrentPerform(iterations: 4) { index in
      let executor = Executor(stepCount: 1, workers: 4)
      last.withLock { $0.append(WeakExecutor(executor)) }
      let marks = UnsafeMutablePointer<Int32>.allocate(capacity: 8)
      let arguments = UnsafeMutablePointer<UnsafeMutableRawPointer?>.allocate(capacity: 1)
      defer {
        marks.deallocate()
        arguments.deallocate()
      }
      arguments.pointee = UnsafeMutableRawPointer(marks)
      let step = BoundStep(code: code.base!, arguments: arguments, tileCount: 8, dependencies: [])
      for run in 0..<20_000 {
        executor.run([step], 0..<1, scratch: [nil, nil, nil, nil])
        var state = UInt32(truncatingIfNeeded: run &* 40503)
        for _ in 0..<((run &* 37 &+ index) % 300) { state = state &* 1_664_525 &+ 1_013_904_223 }
        marks[0] = Int32(bitPattern: state)
      }
    }
    let patience = DispatchTime.now() + .seconds(20)
    func remain() -> Int { last.withLock { $0.count { $0.executor != nil } } }
    while remain() > 0, DispatchTime.now() < patience { Thread.sleep(forTimeInterval: 0.001) }
    #expect(remain() == 0, "helpers of an executor did not leave")
    withExtendedLifetime(code) {}
  }

  struct WeakExecutor: Sendable {
    weak let executor: Executor?
    init(_ executor: Executor) { self.executor = executor }
  }

  @Test func runsInFlightTogether() async throws {
    let executable = try Self.executable(Self.program(steps: 20, tiles: 33))
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for _ in 0..<16 {
        group.addTask {
          for _ in 0..<50 {
            let results = try executable.run([:], threads: 2)
            if results[0].value.integers != (0..<33).map({ Int64($0) }) { return false }
          }
          return true
        }
      }
      for try await ok in group { #expect(ok) }
    }
  }

  /// Every step is timed, whatever other runs have left behind.
  @Test func profilesTimeEveryStep() throws {
    let executable = try Self.executable(Self.program(steps: 5, tiles: 4000))
    for threads in [1, 2] { _ = try executable.run([:], threads: threads) }
    let times = try executable.profile([:], threads: 2)
    #expect(times.count == 5 && times.allSatisfy { $0 > 0 })
  }

  /// A worker helps with the others' shares only when its own is claimed.
  @Test(.enabled(if: ProcessInfo.processInfo.activeProcessorCount > 1))
  func workersTakeTheirShareFirst() throws {
    let (tiles, workers) = (4000, 2)
    let executable = try Self.executable(Self.program(steps: 2, tiles: tiles))
    var shared = 0
    for _ in 0..<200 where shared < 20 {
      let events = try executable.trace([:], threads: workers).filter { $0.step == 0 }
      let lists = (0..<workers).map { worker in
        events.filter { $0.worker == worker }.map(\.tile)
      }
      if lists.contains(where: { $0.isEmpty }) { continue }
      shared += 1
      for (worker, list) in lists.enumerated() {
        let own = tiles * worker / workers..<tiles * (worker + 1) / workers
        let foreign = list.firstIndex { !own.contains($0) } ?? list.count
        #expect(list[foreign...].allSatisfy { !own.contains($0) })
      }
    }
    #expect(shared > 0)
  }

  /// A trace has every tile once, by workers that there are, none before the steps that it waits for.
  @Test(arguments: [1, 2, 4]) func tracesHaveEveryTile(_ threads: Int) throws {
    let executable = try Self.executable(Self.program(steps: 5, tiles: 400))
    let events = try executable.trace([:], threads: threads)
    #expect(Set(events.map { [$0.step, $0.tile] }).count == events.count)
    for (index, step) in executable.program.steps.enumerated() {
      let mine = events.filter { $0.step == index }
      #expect(mine.count == step.tileCount)
      #expect(mine.allSatisfy { $0.start <= $0.end && (0..<threads).contains($0.worker) })
      guard let first = mine.map(\.start).min() else { continue }
      for dependency in step.dependencies {
        #expect(events.filter { $0.step == dependency.index }.allSatisfy { $0.end <= first })
      }
    }
    // Asked for once, not kept on.
    #expect(try executable.trace([:], threads: threads).count == events.count)
  }

  @Test func damagedProgramsAreRefused() throws {
    var program = Self.program(steps: 2, tiles: 3)
    program.steps[0].dependencies = [StepID(1)]
    #expect(throws: DLCError.self) { try Self.executable(program) }
    program = Self.program(steps: 2, tiles: 3)
    program.buffers[0].place = .arena(64)
    #expect(throws: DLCError.self) { try Self.executable(program) }
    program = Self.program(steps: 1, tiles: 3)
    program.kernels[0].offset = 1000
    #expect(throws: DLCError.self) { try Self.executable(program) }
  }

  @Test func wrongInputsAreNamed() throws {
    let executable = try Self.executable(Self.program(steps: 1, tiles: 3))
    let error = #expect(throws: DLCError.self) {
      try executable.run(["z": Tensor([1], [1] as [Float])])
    }
    #expect(error?.message == "there is no input 'z'")
  }
}
