import DLCKernel
import DLCTensor

/// Loads of lanes that stand a few elements apart.
extension KernelEmitter {
  /// An element of a group for all lanes of the group, where groups of neighbours are parts of vectors, or vectors parts
  /// of groups: one load, and lanes exchanged. nil for any other place.
  mutating func loadGrouped(
    _ memory: Memory, _ e: IndexExpression, _ type: DataType, _ context: VectorContext
  ) -> Operand? {
    guard context.isAligned, let (size, element) = e.group(of: context.variable) else { return nil }
    let (lanes, storage) = (context.lanes, type.llvmStorage)
    if size % lanes == 0 {
      return text.load(storage, 0, from: address(memory, index(e), type), align: type.byteCount)
    }
    guard lanes % size == 0, let element else { return nil }
    // The first lane is the first of a group.
    let pointer = address(memory, index(e + -element), type)
    let all =
      context.mask.map { text.load(storage, lanes, from: pointer, align: type.byteCount, mask: $0) }
      ?? text.load(storage, lanes, from: pointer, align: type.byteCount)
    return text.shuffle(
      all, .poison(storage, lanes), (0..<lanes).map { $0 / size * size + element })
  }

  /// Lanes up to so far apart are picked from whole vectors.
  static let greatestSpread = 4

  /// Lanes `stride` elements apart, picked from vectors of neighbours. The last vector ends with the last lane's
  /// element, so that nothing beyond it is read.
  /// - Parameter remaining: how many lanes are active; nil for all.
  func loadSpread(
    _ type: DataType, _ lanes: Int, from pointer: Operand, by stride: Int,
    remaining: Operand? = nil
  ) -> Operand {
    let storage = type.llvmStorage
    func start(_ piece: Int) -> Int { min(piece * lanes, (lanes - 1) * stride - (lanes - 1)) }
    func load(_ piece: Int) -> Operand {
      let from = text.offset(pointer, .index(start(piece)), of: storage)
      guard let remaining else {
        return text.load(storage, lanes, from: from, align: type.byteCount)
      }
      let inside = text.add(text.multiply(remaining, stride), 1 - stride - start(piece))
      return text.load(
        storage, lanes, from: from, align: type.byteCount, mask: text.mask(lanes, before: inside))
    }
    var result = load(0)
    for piece in 1..<stride {
      let lanesOfBoth = (0..<lanes).map { lane in
        let element = lane * stride
        if element / lanes == piece { return lanes + element - start(piece) }
        // After the first two, what was picked stays in its lane.
        return piece == 1 ? min(element, lanes - 1) : lane
      }
      result = text.shuffle(result, load(piece), lanesOfBoth)
    }
    return result
  }
}
