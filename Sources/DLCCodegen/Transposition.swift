import DLCKernel
import DLCTensor

/// Loads of lanes that stand apart in memory, along a loop that runs through neighbours: each lane's
/// neighbours are one vector load, and a square of such vectors is transposed in registers.
extension KernelEmitter {
  private static let prefetchBytes = 512

  struct StridedLoad {
    var id: ScalarID
    var memory: Memory
    var index: IndexExpression
    var type: DataType
  }

  /// The loads of a loop that are worth it, and how many iterations a square holds.
  func transposable(_ loop: Loop) -> (loads: [StridedLoad], block: Int)? {
    guard let context = vector, loop.body.count <= 12 else { return nil }
    var loads: [StridedLoad] = []
    for statement in loop.body {
      switch statement {
      case .define(let id, .load(let memory, let index, let type)):
        guard type == .float32 || type == .float64, let apart = stride(index, context),
          apart != 0, apart != 1, index.stride(of: loop.variable) == 1
        else { continue }
        loads.append(StridedLoad(id: id, memory: memory, index: index, type: type))
      case .define, .store: continue
      case .prefetch, .loop, .contract, .pack, .winograd, .bind, .when: return nil
      }
    }
    guard let type = loads.first?.type, loads.allSatisfy({ $0.type == type }) else { return nil }
    let block = text.target.vectorBytes / type.byteCount
    guard context.lanes % block == 0, loop.extent.size >= block else { return nil }
    return (loads, block)
  }

  /// Where each lane of a load begins, once for all iterations of a square.
  mutating func laneAddresses(_ load: StridedLoad) -> [Operand] {
    return laneIndices(load.index, vector!).map { place in
      let from = address(load.memory, place, load.type)
      // So many streams are more than the processor follows by itself.
      text.prefetch(from, ahead: Self.prefetchBytes)
      return from
    }
  }

  /// The values of as many iterations as 128 bits hold, from number `first` on, each for all lanes.
  ///
  /// Vectors are put together from 128 bits of every few lanes, so that transposing within parts of 128
  /// bits, for which all instruction sets have interleaving, is all that remains, and few of them live
  /// at a time.
  func loadPart(_ load: StridedLoad, _ lanes: [Operand], from first: Int) -> [Operand] {
    let element = load.type.llvmType
    let part = 16 / load.type.byteCount
    let width = text.target.vectorBytes / load.type.byteCount
    func piece(_ lane: Int) -> Operand {
      let from = text.offset(lanes[lane], .index(first), of: element)
      return text.load(element, part, from: from, align: load.type.byteCount)
    }
    var groups: [[Operand]] = []
    for start in Swift.stride(from: 0, to: lanes.count, by: width) {
      let rows = (0..<part).map { q in
        joined(Swift.stride(from: start + q, to: start + width, by: part).map { piece($0) })
      }
      groups.append(interleaved(rows))
    }
    return (0..<part).map { u in joined(groups.map { $0[u] }) }
  }

  /// Vectors one behind the other, a power of two of them.
  private func joined(_ vectors: [Operand]) -> Operand {
    var parts = vectors
    while parts.count > 1 {
      parts = Swift.stride(from: 0, to: parts.count, by: 2).map { at in
        text.shuffle(parts[at], parts[at + 1], Array(0..<2 * parts[at].lanes))
      }
    }
    return parts[0]
  }

  /// Two or four vectors, transposed within parts of 128 bits.
  private func interleaved(_ rows: [Operand]) -> [Operand] {
    let (count, part) = (rows[0].lanes, rows.count)
    /// Runs of `width` elements by turns, from one half of each part.
    func interleave(_ a: Operand, _ b: Operand, _ width: Int, upper: Bool) -> Operand {
      let half = part / 2
      let mask = (0..<count / part).flatMap { p in
        Swift.stride(from: 0, to: half, by: width).flatMap { at -> [Int] in
          let from = p * part + at + (upper ? half : 0)
          return (0..<width).map { from + $0 } + (0..<width).map { count + from + $0 }
        }
      }
      return text.shuffle(a, b, mask)
    }
    if part == 2 { return [false, true].map { interleave(rows[0], rows[1], 1, upper: $0) } }
    return [false, true].flatMap { upper in
      let a = interleave(rows[0], rows[1], 1, upper: upper)
      let b = interleave(rows[2], rows[3], 1, upper: upper)
      return [false, true].map { interleave(a, b, 2, upper: $0) }
    }
  }
}
