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
      case .loop, .contract, .pack, .bind, .when: return nil
      }
    }
    guard let type = loads.first?.type, loads.allSatisfy({ $0.type == type }) else { return nil }
    let block = text.target.vectorBytes / type.byteCount
    guard context.lanes % block == 0, loop.extent.size >= block else { return nil }
    return (loads, block)
  }

  /// The values of `block` iterations from the present one on, each for all lanes.
  mutating func loadTransposed(
    _ memory: Memory, _ e: IndexExpression, _ type: DataType, _ block: Int
  ) -> [Operand] {
    let element = type.llvmType
    text.declare("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    let places = laneIndices(e, vector!)
    var columns: [[Operand]] = []
    for first in Swift.stride(from: 0, to: places.count, by: block) {
      let rows = places[first..<first + block].map { place in
        // So many streams are more than the processor follows by itself.
        let from = address(memory, place, type)
        let ahead = text.make("ptr", 0, "getelementptr i8, ptr \(from), i64 \(Self.prefetchBytes)")
        text.emit("call void @llvm.prefetch.p0(ptr \(ahead.name), i32 0, i32 3, i32 1)")
        return text.make(
          element, block, "load <\(block) x \(element)>, ptr \(from), align \(type.byteCount)")
      }
      columns.append(transpose(rows, type))
    }
    return (0..<block).map { u in
      var parts = columns.map { $0[u] }
      while parts.count > 1 {
        parts = Swift.stride(from: 0, to: parts.count, by: 2).map { at in
          shuffle(parts[at], parts[at + 1], Array(0..<2 * parts[at].lanes))
        }
      }
      return parts[0]
    }
  }

  private func shuffle(_ a: Operand, _ b: Operand, _ mask: [Int]) -> Operand {
    let numbers = mask.map { "i32 \($0)" }.joined(separator: ", ")
    return text.make(
      a.type, mask.count,
      "shufflevector \(a.text), \(b.text), <\(mask.count) x i32> <\(numbers)>")
  }

  /// A square of vectors, transposed: first within parts of 128 bits, in which all instruction sets
  /// interleave, then those parts as they are.
  private func transpose(_ rows: [Operand], _ type: DataType) -> [Operand] {
    let count = rows.count
    let part = 16 / type.byteCount
    let parts = count / part
    /// Interleaves runs of `width` elements from one half of each part.
    func interleave(_ a: Operand, _ b: Operand, _ width: Int, upper: Bool) -> Operand {
      let half = part / 2
      let mask = (0..<parts).flatMap { p in
        Swift.stride(from: 0, to: half, by: width).flatMap { at -> [Int] in
          let from = p * part + at + (upper ? half : 0)
          return (0..<width).map { from + $0 } + (0..<width).map { count + from + $0 }
        }
      }
      return shuffle(a, b, mask)
    }
    func pick(_ a: Operand, _ b: Operand, _ chosen: [Int]) -> Operand {
      shuffle(a, b, chosen.flatMap { p in (0..<part).map { p * part + $0 } })
    }
    // inner[j][g]: column j of every part, of the rows of group g.
    var inner = [[Operand]](repeating: [], count: part)
    for g in 0..<parts {
      let r = Array(rows[g * part..<(g + 1) * part])
      if part == 2 {
        for upper in [false, true] {
          inner[upper ? 1 : 0].append(interleave(r[0], r[1], 1, upper: upper))
        }
        continue
      }
      for upper in [false, true] {
        let a = interleave(r[0], r[1], 1, upper: upper)
        let b = interleave(r[2], r[3], 1, upper: upper)
        for second in [false, true] {
          inner[(upper ? 2 : 0) + (second ? 1 : 0)].append(interleave(a, b, 2, upper: second))
        }
      }
    }
    var columns = rows
    for j in 0..<part {
      let x = inner[j]
      switch parts {
      case 1: columns[j] = x[0]
      case 2:
        columns[j] = pick(x[0], x[1], [0, 2])
        columns[part + j] = pick(x[0], x[1], [1, 3])
      default:
        let halves = [[0, 1, 4, 5], [2, 3, 6, 7]].map { chosen in
          (pick(x[0], x[1], chosen), pick(x[2], x[3], chosen))
        }
        for (h, (low, high)) in halves.enumerated() {
          columns[2 * h * part + j] = pick(low, high, [0, 2, 4, 6])
          columns[(2 * h + 1) * part + j] = pick(low, high, [1, 3, 5, 7])
        }
      }
    }
    return columns
  }
}
