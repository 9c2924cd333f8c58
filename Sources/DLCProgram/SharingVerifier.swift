package import DLCTensor

extension Program {
  /// Checks that no bytes are taken from a value that is still needed, whatever order the workers run
  /// the steps in: two arena buffers that share bytes have live ranges that do not meet, also around
  /// loops, and where one follows the other within a run of steps, dependencies say so; and a step
  /// that reads a buffer comes behind the steps that write it, one that writes it behind those that
  /// used it before.
  ///
  /// One step may read a buffer and write another one in its place when their bytes are the same.
  /// - Throws: `.format` naming the buffers and the steps.
  package func verifySharing(_ storage: StorageMap) throws(DLCError) {
    let liveness = Liveness(self, storage)
    var order = StepOrder(self)
    try verifyDependencies(storage, &order)
    // A buffer comes where its range begins.
    let roots = liveness.ranges.keys.filter {
      if case .arena = self[$0].place { self[$0].byteCount > 0 } else { false }
    }.sorted {
      (liveness.ranges[$0]!.lowerBound, liveness.ranges[$0]!.upperBound, $0.index)
        < (liveness.ranges[$1]!.lowerBound, liveness.ranges[$1]!.upperBound, $1.index)
    }
    var owners = ArenaOwners(roots.map { arenaRange($0) })
    for late in roots {
      let lateRange = liveness.ranges[late]!
      for index in owners.take(arenaRange(late), for: late.index) {
        let early = BufferID(index)
        let earlyRange = liveness.ranges[early]!
        func fault(_ what: String) -> DLCError {
          DLCError(
            .format, "the program is damaged: buffers \(index) and \(late.index) share bytes \(what)")
        }
        let isHandedOver =
          earlyRange.upperBound == lateRange.lowerBound
          && liveness.events[lateRange.lowerBound].step != nil
          && arenaRange(early) == arenaRange(late)
        guard earlyRange.upperBound < lateRange.lowerBound || isHandedOver else {
          throw fault("while both are in use")
        }
        // Only within one run of steps is there an order to ask for, and the first step of a run that
        // writes a buffer comes before the others that do.
        var asked = -1
        for use in liveness.uses[late]! where use.isWrite {
          let event = liveness.events[use.event]
          guard let writer = event.step, event.run != asked else { continue }
          asked = event.run
          let users = liveness.steps(using: early, inRun: event.run).filter { $0 != writer }
          if let loose = try order.firstUnordered(users, before: writer) {
            throw fault("and step \(writer) does not wait for step \(loose)")
          }
        }
      }
    }
  }

  package func arenaRange(_ id: BufferID) -> Range<Int> {
    guard case .arena(let offset) = self[id].place else { return 0..<0 }
    return offset..<offset + self[id].byteCount
  }

  private func verifyDependencies(_ storage: StorageMap, _ order: inout StepOrder) throws(DLCError)
  {
    func follow(_ list: [Instruction]) throws(DLCError) {
      for instruction in list {
        switch instruction {
        case .run(let range):
          var history = UseHistory(storage)
          for index in range {
            let needed = history.needed(uses(steps[index]), by: index)
            if let loose = try order.firstUnordered(needed, before: index) {
              throw DLCError(
                .format,
                "the program is damaged: step \(index) does not wait for step \(loose), whose buffer it uses"
              )
            }
          }
        case .branch(_, let then, let otherwise):
          try follow(then)
          try follow(otherwise)
        case .loop(let loop):
          try follow(loop.condition)
          try follow(loop.body)
        }
      }
    }
    try follow(instructions)
  }
}

/// Which earlier steps of one run a step has to wait for: those that wrote what it reads, and those
/// that used what it writes.
package struct UseHistory {
  private struct Lane {
    var part: StorageMap.Part
    var writer: Int?
    var readers: [Int] = []
  }
  private let storage: StorageMap
  private var lanes: [BufferID: [Lane]] = [:]

  package init(_ storage: StorageMap) { self.storage = storage }

  /// The steps to wait for, in ascending order; the step's own uses are then known to later ones.
  /// What they waited for themselves is left out.
  package mutating func needed(_ uses: [BufferUse], by step: Int) -> [Int] {
    var needed: Set<Int> = []
    for use in uses {
      for part in storage.parts(of: use.buffer) {
        for lane in lanes[part.root] ?? [] where lane.part.mayBe(part) {
          if let writer = lane.writer { needed.insert(writer) }
          if use.isWrite { needed.formUnion(lane.readers) }
        }
      }
    }
    for use in uses where !use.isWrite {
      for part in storage.parts(of: use.buffer) {
        let index = lane(part)
        if lanes[part.root]![index].readers.last != step {
          lanes[part.root]![index].readers.append(step)
        }
      }
    }
    for use in uses where use.isWrite {
      for part in storage.parts(of: use.buffer) {
        let index = lane(part)
        lanes[part.root]![index].writer = step
        lanes[part.root]![index].readers = []
      }
    }
    needed.remove(step)
    return needed.sorted()
  }

  private mutating func lane(_ part: StorageMap.Part) -> Int {
    if let known = lanes[part.root]?.firstIndex(where: { $0.part == part }) { return known }
    lanes[part.root, default: []].append(Lane(part: part))
    return lanes[part.root]!.count - 1
  }
}

/// Whether dependencies, and what they depend on, put one step before another.
struct StepOrder {
  private let program: Program
  private var work = 0
  private let limit: Int

  init(_ program: Program) {
    self.program = program
    let edges = program.steps.reduce(0) { $0 + $1.dependencies.count + 1 }
    // What the compiler makes needs a few steps back for each edge.
    limit = 256 * edges + (1 << 24)
  }

  /// The first of some steps that another one does not wait for.
  mutating func firstUnordered(_ steps: [Int], before late: Int) throws(DLCError) -> Int? {
    var open = Set(steps)
    for dependency in program.steps[late].dependencies { open.remove(dependency.index) }
    guard let oldest = open.min() else { return nil }
    if let future = open.first(where: { $0 >= late }) { return future }
    var pending = program.steps[late].dependencies.map(\.index)
    var visited: Set<Int> = []
    while let next = pending.popLast() {
      guard next >= oldest, visited.insert(next).inserted else { continue }
      open.remove(next)
      if open.isEmpty { return nil }
      work += 1 + program.steps[next].dependencies.count
      guard work <= limit else {
        throw DLCError(.format, "the program is damaged: its dependencies are too tangled to check")
      }
      pending += program.steps[next].dependencies.map(\.index)
    }
    return open.min()
  }
}
