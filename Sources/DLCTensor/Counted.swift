/// A number of things for people: `1 input`, `2 inputs`.
/// - Parameter plural: what several are called, where that is not the noun with an `s`.
package func counted(_ count: Int, _ noun: String, _ plural: String? = nil) -> String {
  "\(count) \(count == 1 ? noun : plural ?? noun + "s")"
}
