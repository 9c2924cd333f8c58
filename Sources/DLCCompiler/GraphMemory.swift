package import DLCGraph
package import DLCTensor

extension Graph {
  /// - Throws: `.memory`, naming it, when there is not enough for a single value.
  package func requireMemoryForEach() throws(DLCError) {
    guard let largest = types.max(by: { $0.byteCount < $1.byteCount }) else { return }
    try AvailableMemory.require(largest.byteCount, for: "a value of type \(largest)")
  }

  /// - Throws: `.memory`, naming the largest values, when there is not enough for all of them together
  ///   as the interpreter holds them: in 64 bits for each element.
  package func requireMemoryForAll() throws(DLCError) {
    let elements = elementCount
    try AvailableMemory.require(
      elements.multipliedReportingOverflow(by: 8).overflow ? Int.max : elements * 8,
      for: "the interpreter; the largest values are "
        + types.sorted { $0.byteCount > $1.byteCount }.prefix(3).map(\.description)
        .joined(separator: ", "))
  }

  /// The elements of all values, those of graphs inside it too.
  private var elementCount: Int {
    let own = types.reduce(0) { $0 + $1.elementCount }
    return nodes.reduce(own) { sum, node in
      node.operation.regions.reduce(sum) { $0 + $1.elementCount }
    }
  }
}
