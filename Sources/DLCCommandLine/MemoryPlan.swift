import DLCProgram
import DLCTensor

/// The buffers of a program's arena over the events of a run, and how many bytes are live at each.
struct MemoryPlan {
  struct Buffer {
    var id: BufferID
    /// Where its rectangle begins and ends, in events: one that hands its bytes on ends in the middle of an event.
    var from: Double
    var to: Double
    var events: ClosedRange<Int>
    var offset: Int
  }
  let program: Program
  private(set) var buffers: [Buffer] = []
  /// Of each event: its step, and the bytes that are live.
  private(set) var steps: [Int?] = []
  private(set) var live: [Int] = []

  init(_ program: Program) {
    self.program = program
    let liveness = Liveness(program, StorageMap(program))
    steps = liveness.events.map(\.step)
    for (id, range) in liveness.ranges {
      guard case .arena(let offset) = program[id].place, program[id].byteCount > 0 else { continue }
      buffers.append(
        Buffer(
          id: id, from: Double(range.lowerBound), to: Double(range.upperBound + 1), events: range,
          offset: offset))
    }
    buffers.sort { ($0.events.lowerBound, $0.id.index) < ($1.events.lowerBound, $1.id.index) }
    handOver()
    count()
  }

  /// A step may write over what it reads: both buffers have the same bytes in its event.
  private mutating func handOver() {
    var ending: [[Int]: Int] = [:]
    for (index, buffer) in buffers.enumerated() {
      ending[[buffer.offset, program[buffer.id].byteCount, buffer.events.upperBound]] = index
    }
    for index in buffers.indices {
      let (late, bytes) = (buffers[index], program[buffers[index].id].byteCount)
      guard let early = ending[[late.offset, bytes, late.events.lowerBound]], early != index,
        buffers[early].events.lowerBound < late.events.lowerBound
      else { continue }
      buffers[early].to -= 0.5
      buffers[index].from += 0.5
    }
  }

  private mutating func count() {
    var change = [Int](repeating: 0, count: steps.count + 1)
    for buffer in buffers {
      // Placement counts whole cache lines.
      let bytes = (program[buffer.id].byteCount + 63) / 64 * 64
      let isHandedOn = buffer.to != buffer.to.rounded()
      change[buffer.events.lowerBound] += bytes
      change[buffer.events.upperBound + (isHandedOn ? 0 : 1)] -= bytes
    }
    var present = 0
    live = steps.indices.map { event in
      present += change[event]
      return present
    }
  }

  /// The last step at or before an event.
  private func step(_ event: Int) -> Int {
    steps[...event].last { $0 != nil }.flatMap { $0 } ?? 0
  }

  private func json(_ buffer: Buffer) -> JSON {
    let slot = program[buffer.id]
    // "add of block1/attention"
    let words = slot.origin.split(separator: " ", maxSplits: 2).map(String.init)
    let scope = words.count == 3 && words[1] == "of" ? words[2] : ""
    let maker = program.steps[step(buffer.events.lowerBound)...].first { step in
      program.uses(step).contains { $0.isWrite && $0.buffer == buffer.id }
    }
    return .object([
      ("name", .text(slot.origin.isEmpty ? "b\(buffer.id.index)" : slot.origin)),
      ("scope", .text(scope.split(separator: "/").first.map(String.init) ?? "")),
      ("type", .text("\(TensorType(slot.type, sizes: slot.shape))")),
      ("bytes", .integer(slot.byteCount)), ("offset", .integer(buffer.offset)),
      ("from", .number(buffer.from)), ("to", .number(buffer.to)),
      ("first", .integer(step(buffer.events.lowerBound))),
      ("last", .integer(step(buffer.events.upperBound))), ("maker", .text(maker?.label ?? "")),
    ])
  }

  var json: JSON {
    .object([
      ("arena", .integer(program.arenaBytes)), ("bound", .integer(program.arenaLowerBound)),
      ("events", .integer(steps.count)), ("steps", .list(steps.map { .integer($0 ?? -1) })),
      ("live", .list(live.map { .integer($0) })), ("buffers", .list(buffers.map(json))),
    ])
  }
}
