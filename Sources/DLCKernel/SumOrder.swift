/// The order in which long sums are added, which the sizes alone decide: never the number of threads,
/// nor how many rows there are beside the one that is summed, nor which kernel does it.
///
/// At most `group` terms are added one after the other; their sums are terms again. So the rounding
/// error grows with the logarithm of the length. Lanes of a vector are terms that run side by side.
///
/// An element of a product is summed over its depth in parts of `productPart` steps, each a chain of
/// multiply-adds from zero; the parts are added in groups. Every way to compute a product (register
/// tiles, one row, one column, a few elements) keeps this order, and so gives the same bits.
package enum SumOrder {
  package static let group = 16

  /// So many steps of a product, and fewer, are one part.
  package static let shortDepth = 320

  /// How many steps of a product form a part.
  package static func productPart(_ depth: Int) -> Int {
    depth <= shortDepth ? max(depth, 1) : evenPart(depth, limit: 256)
  }

  /// The smallest equal parts of `total` within the limit, in steps of four.
  package static func evenPart(_ total: Int, limit: Int) -> Int {
    let parts = (total + limit - 1) / limit
    return min(((total + parts - 1) / max(parts, 1) + 3) / 4 * 4, max(total, 1))
  }

  /// How many levels of groups there are above the first when terms come in chains.
  package static func levels(_ total: Int, chain: Int) -> Int {
    var (levels, size) = (0, chain.multipliedReportingOverflow(by: group))
    while !size.overflow && size.partialValue < total {
      levels += 1
      size = size.partialValue.multipliedReportingOverflow(by: group)
    }
    return levels
  }
}
