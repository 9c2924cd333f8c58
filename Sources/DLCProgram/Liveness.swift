/// When each buffer with storage of its own is in use.
///
/// The program is laid out as a line of events: its steps in order, the head of each branch, and for
/// each loop its beginning, the test of its predicate and its end. A range that leaves a loop, or a
/// value that an iteration finds and did not write itself, covers the whole loop.
package struct Liveness: Sendable {
  package struct Use: Hashable, Sendable {
    package var event: Int
    package var isWrite: Bool
  }

  package struct Event: Hashable, Sendable {
    /// The step, or nil for the head of a branch and the three events of a loop.
    package var step: Int?
    /// Events of one straight run of steps have one number; everything else is ordered by time.
    package var run: Int
  }

  package private(set) var events: [Event] = []
  /// The uses of each root in order.
  package private(set) var uses: [BufferID: [Use]] = [:]
  /// From the first event to the last in which the bytes of a root must not be touched by others.
  package private(set) var ranges: [BufferID: ClosedRange<Int>] = [:]

  private struct LoopSpan {
    var events: ClosedRange<Int>
    var used: Set<BufferID>
    var exposed: Set<BufferID>
  }
  private var loops: [LoopSpan] = []
  private var runs = 0

  /// What a list of instructions uses, reads before it wrote it, and writes whichever way it goes.
  private struct Effect {
    var used: Set<BufferID> = []
    var exposed: Set<BufferID> = []
    var defined: Set<BufferID> = []

    mutating func append(_ next: Effect) {
      used.formUnion(next.used)
      for root in next.exposed where !defined.contains(root) { exposed.insert(root) }
      defined.formUnion(next.defined)
    }
  }

  package init(_ program: Program, _ storage: StorageMap) {
    _ = walk(program.instructions, program, storage)
    for (root, list) in uses { ranges[root] = list[0].event...list[list.count - 1].event }
    // Inner loops stand before the loops around them.
    for loop in loops {
      for root in loop.used {
        let (range, span) = (ranges[root]!, loop.events)
        if loop.exposed.contains(root) || range.lowerBound < span.lowerBound
          || range.upperBound > span.upperBound
        {
          ranges[root] =
            min(range.lowerBound, span.lowerBound)...max(range.upperBound, span.upperBound)
        }
      }
    }
  }

  /// The steps of one run that use a root, in order.
  package func steps(using root: BufferID, inRun run: Int) -> [Int] {
    let list = uses[root] ?? []
    var (low, high) = (0, list.count)
    while low < high {
      let middle = (low + high) / 2
      if events[list[middle].event].run < run { low = middle + 1 } else { high = middle }
    }
    var result: [Int] = []
    for use in list[low...] {
      let event = events[use.event]
      guard event.run == run, let step = event.step else { break }
      if result.last != step { result.append(step) }
    }
    return result
  }

  private mutating func record(_ list: [BufferUse], _ step: Int?, _ storage: StorageMap) -> Effect {
    var effect = Effect()
    if step == nil { runs += 1 }
    for use in list {
      for part in storage.parts(of: use.buffer) {
        uses[part.root, default: []].append(Use(event: events.count, isWrite: use.isWrite))
        effect.used.insert(part.root)
        // What a step reads it finds; of two that take turns only one is written.
        if !use.isWrite {
          effect.exposed.insert(part.root)
        } else if part.turns.isEmpty {
          effect.defined.insert(part.root)
        }
      }
    }
    events.append(Event(step: step, run: runs))
    if step == nil { runs += 1 }
    return effect
  }

  private mutating func walk(
    _ list: [Instruction], _ program: Program, _ storage: StorageMap
  ) -> Effect {
    var effect = Effect()
    for instruction in list {
      switch instruction {
      case .run(let range):
        runs += 1
        for step in range {
          effect.append(record(program.uses(program.steps[step]), step, storage))
        }
      case .branch(let predicate, let then, let otherwise):
        effect.append(record([BufferUse(predicate, isWrite: false)], nil, storage))
        let (a, b) = (walk(then, program, storage), walk(otherwise, program, storage))
        effect.append(
          Effect(
            used: a.used.union(b.used), exposed: a.exposed.union(b.exposed),
            defined: a.defined.intersection(b.defined)))
      case .loop(let loop):
        let begin = events.count
        effect.append(record(loop.usesBefore, nil, storage))
        var inside = walk(loop.condition, program, storage)
        inside.append(record(loop.usesBetween, nil, storage))
        let always = inside.defined
        inside.append(walk(loop.body, program, storage))
        // A loop without iterations writes nothing.
        if loop.count == nil { inside.defined = always }
        if loop.count == 0 { inside.defined = [] }
        effect.append(inside)
        effect.append(record(loop.usesAfter, nil, storage))
        // Values that are carried live from the first copy to the last, whichever turn it is.
        let carried = Set(
          loop.carried.flatMap {
            storage.parts(of: $0.even).map(\.root) + storage.parts(of: $0.odd).map(\.root)
          })
        loops.append(
          LoopSpan(
            events: begin...events.count - 1, used: inside.used.union(carried),
            exposed: inside.exposed.union(carried)))
      }
    }
    return effect
  }
}
