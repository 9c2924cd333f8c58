import DLCProgram

/// Gives the buffers of an assembled program their bytes in the arena, and its steps the dependencies
/// that make every order of execution right.
struct ProgramPlacement {
  private var program: Program
  private let storage: StorageMap
  /// For each step the pairs of buffers of which the second may take the bytes of the first.
  private let inPlace: [[(input: BufferID, output: BufferID)]]
  private let liveness: Liveness
  /// Steps before which everything earlier must have ended, in place of very many dependencies.
  private var barriers: Set<Int> = []
  private static let handOverLimit = 256

  static func place(
    _ program: Program, _ inPlace: [[(input: BufferID, output: BufferID)]], _ storage: StorageMap
  ) -> Program {
    var placement = ProgramPlacement(
      program: program, storage: storage, inPlace: inPlace,
      liveness: Liveness(program, storage))
    placement.run()
    return placement.program
  }

  private mutating func run() {
    // In the order in which they come to life.
    let roots = liveness.ranges.keys.filter {
      if case .arena = program[$0].place { true } else { false }
    }.sorted {
      (liveness.ranges[$0]!.lowerBound, $0.index) < (liveness.ranges[$1]!.lowerBound, $1.index)
    }
    setOffsets(roots)
    let extra = handOvers(roots)
    program.instructions = split(program.instructions)
    setDependencies(program.instructions, extra)
  }

  // MARK: Offsets

  private mutating func setOffsets(_ roots: [BufferID]) {
    var ranges: [BufferID: LiveRange] = [:]
    for root in roots {
      let range = liveness.ranges[root]!
      ranges[root] = LiveRange(
        size: program[root].byteCount, first: range.lowerBound, last: range.upperBound)
    }
    let owner = takeOver(&ranges)
    let keepers = roots.filter { owner[$0] == nil }
    let placement = BufferPlacement(keepers.map { ranges[$0]! })
    program.arenaBytes = placement.peak
    program.arenaLowerBound = placement.lowerBound
    for (id, offset) in zip(keepers, placement.offsets) {
      program.buffers[id.index].place = .arena(offset)
    }
    for id in roots where owner[id] != nil {
      var keeper = id
      while let next = owner[keeper] { keeper = next }
      program.buffers[id.index].place = program[keeper].place
    }
  }

  /// An output takes over the bytes of an input that dies in the same step. The range of the input that
  /// keeps the bytes grows.
  private func takeOver(_ ranges: inout [BufferID: LiveRange]) -> [BufferID: BufferID] {
    var owner: [BufferID: BufferID] = [:]
    func keeper(_ id: BufferID) -> BufferID {
      var id = id
      while let next = owner[id] { id = next }
      return id
    }
    for (event, entry) in liveness.events.enumerated() {
      guard let step = entry.step, !inPlace[step].isEmpty else { continue }
      // How often the step reads each root.
      var reads: [BufferID: Int] = [:]
      for use in program.uses(program.steps[step]) where !use.isWrite {
        for part in storage.parts(of: use.buffer) { reads[keeper(part.root), default: 0] += 1 }
      }
      var taken: Set<BufferID> = []
      for (input, output) in inPlace[step] {
        guard let dying = liveness.ranges[input], let born = liveness.ranges[output],
          ranges[input] != nil, ranges[output] != nil, owner[output] == nil,
          dying.upperBound == event, born.lowerBound == event
        else { continue }
        let from = keeper(input)
        guard from != keeper(output), ranges[from]!.last == event,
          ranges[from]!.size == ranges[output]!.size,
          // Nobody else in this step reads the input in another way.
          reads[from] == 1, !taken.contains(from), !taken.contains(output)
        else { continue }
        owner[output] = from
        ranges[from]!.last = born.upperBound
        taken.formUnion([from, output])
      }
    }
    return owner
  }

  // MARK: Dependencies

  /// Steps that a step must wait for because it writes to bytes that others used before.
  private mutating func handOvers(_ roots: [BufferID]) -> [Int: Set<Int>] {
    var extra: [Int: Set<Int>] = [:]
    var owners = ArenaOwners(roots.map { program.arenaRange($0) })
    for late in roots {
      for index in owners.take(program.arenaRange(late), for: late.index) {
        var run = -1
        for use in liveness.uses[late]! where use.isWrite {
          let event = liveness.events[use.event]
          // Those behind the first writer of a run wait for it.
          guard let writer = event.step, event.run != run else { continue }
          run = event.run
          let users = lastUsers(BufferID(index), inRun: run).filter { $0 != writer }
          if users.count > Self.handOverLimit {
            barriers.insert(writer)
          } else {
            extra[writer, default: []].formUnion(users)
          }
        }
      }
    }
    return extra
  }

  /// The steps of a run that use a buffer, without those that later users wait for.
  private func lastUsers(_ root: BufferID, inRun run: Int) -> [Int] {
    let steps = liveness.steps(using: root, inRun: run)
    let lastWriter = steps.lastIndex { step in
      program.uses(program.steps[step]).contains { use in
        use.isWrite && storage.parts(of: use.buffer).contains { $0.root == root }
      }
    }
    guard let lastWriter else { return steps }
    return lastWriter == steps.count - 1 ? [steps[lastWriter]] : Array(steps[(lastWriter + 1)...])
  }

  /// Cuts runs of steps at the barriers.
  private func split(_ list: [Instruction]) -> [Instruction] {
    list.flatMap { instruction -> [Instruction] in
      switch instruction {
      case .run(let range):
        var (pieces, start) = ([Instruction](), range.lowerBound)
        for step in range where step > start && barriers.contains(step) {
          pieces.append(.run(start..<step))
          start = step
        }
        return pieces + [.run(start..<range.upperBound)]
      case .branch(let predicate, let then, let otherwise):
        return [.branch(predicate, then: split(then), otherwise: split(otherwise))]
      case .loop(var loop):
        loop.condition = split(loop.condition)
        loop.body = split(loop.body)
        return [.loop(loop)]
      }
    }
  }

  private mutating func setDependencies(_ list: [Instruction], _ extra: [Int: Set<Int>]) {
    for instruction in list {
      switch instruction {
      case .run(let range):
        let steps = StepLinker.linked(program.steps, range, program, storage, extra)
        program.steps.replaceSubrange(range, with: steps)
      case .branch(_, let then, let otherwise):
        setDependencies(then, extra)
        setDependencies(otherwise, extra)
      case .loop(let loop):
        setDependencies(loop.condition, extra)
        setDependencies(loop.body, extra)
      }
    }
  }
}

/// Sets the dependencies of steps that run together.
enum StepLinker {
  /// - Parameter extra: further steps that a step waits for.
  /// - Returns: the steps of the range.
  static func linked(
    _ steps: [Step], _ range: Range<Int>, _ program: Program, _ storage: StorageMap,
    _ extra: [Int: Set<Int>] = [:]
  ) -> [Step] {
    var history = UseHistory(storage)
    var waitsFor: [Int: Set<Int>] = [:]
    return range.map { index in
      var step = steps[index]
      var needed = Set(history.needed(program.uses(step), by: index))
      needed.formUnion((extra[index] ?? []).filter { range.contains($0) && $0 < index })
      waitsFor[index] = needed
      // What another dependency waits for itself is left out.
      let direct =
        needed.count > 64
        ? needed : needed.filter { step in !needed.contains { waitsFor[$0]!.contains(step) } }
      step.dependencies = direct.sorted().map { StepID($0) }
      return step
    }
  }
}
