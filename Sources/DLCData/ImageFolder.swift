package import DLCTensor
import Foundation

/// How an image becomes a row.
package enum ImageLayout: String, CaseIterable, Sendable {
  /// `[channels, height, width]`.
  case image
  /// `[height * width * channels]`.
  case flat

  package func shape(_ height: Int, _ width: Int, _ channels: Int) -> [Int] {
    self == .flat ? [height * width * channels] : [channels, height, width]
  }
}

/// A folder of PNG and JPEG files: one sub-folder for each class, or the files themselves without classes.
package struct ImageFolder {
  package struct Options: Sendable {
    package var layout = ImageLayout.image
    /// Keeps 0...255 as uint8, in place of float32 in 0...1.
    package var keepsBytes = false
    /// All images are given this size; without it they must have one.
    package var size: (height: Int, width: Int)?
    /// 1 or 3; without it 3 when any file has colours.
    package var channels: Int?
    package var names = (x: "x", y: "y")

    package init() {}
  }

  package private(set) var paths: [String] = []
  /// The class of each file; none when the folder has no sub-folders.
  package private(set) var labels: [Int] = []
  package private(set) var classes: [String] = []

  /// Finds the files, in the order of their names' scalars; those whose names begin with a dot are left out.
  /// - Throws: `.file` when a folder cannot be read, `.format` when there is no image or a class is empty.
  package init(_ folder: String) throws(DLCError) {
    let (files, folders) = try Self.list(folder)
    if folders.isEmpty {
      guard !files.isEmpty else {
        throw DLCError(
          .format, "the folder is empty", at: folder,
          remedy: "it has one sub-folder of PNG or JPEG files for each class, or the files")
      }
      paths = files.map { "\(folder)/\($0)" }
      return
    }
    guard files.isEmpty else {
      throw DLCError(
        .format, "the file '\(files[0])' stands beside folders of classes", at: folder,
        remedy: "put every image into the folder of its class")
    }
    for (label, name) in folders.enumerated() {
      let (files, inner) = try Self.list("\(folder)/\(name)")
      guard inner.isEmpty else {
        throw DLCError(
          .format, "the folder of a class has the folder '\(inner[0])' in it",
          at: "\(folder)/\(name)")
      }
      guard !files.isEmpty else {
        throw DLCError(
          .format, "the folder of class '\(name)' is empty", at: "\(folder)/\(name)",
          remedy: "remove it, or put its images there")
      }
      paths += files.map { "\(folder)/\(name)/\($0)" }
      labels += [Int](repeating: label, count: files.count)
      classes.append(name)
    }
  }

  private static func list(_ folder: String) throws(DLCError) -> (
    files: [String], folders: [String]
  ) {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder) else {
      throw DLCError(.file, "there is no folder '\(folder)'")
    }
    guard isFolder.boolValue else { throw DLCError(.file, "'\(folder)' is not a folder") }
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
      throw DLCError(.file, "cannot read the folder '\(folder)'")
    }
    let visible = names.filter { !$0.hasPrefix(".") }.sorted {
      $0.unicodeScalars.lexicographicallyPrecedes($1.unicodeScalars)
    }
    var (files, folders) = ([String](), [String]())
    for name in visible {
      _ = FileManager.default.fileExists(atPath: "\(folder)/\(name)", isDirectory: &isFolder)
      if isFolder.boolValue { folders.append(name) } else { files.append(name) }
    }
    return (files, folders)
  }

  /// The images as rows; each file is read again when its row is.
  /// - Throws: what is wrong with the first bad file, and `.format`, naming the file, when its size is not
  ///   that of the first one and no size is asked for.
  package func dataset(_ options: Options) throws(DLCError) -> Dataset {
    var first: (path: String, height: Int, width: Int)?
    var isColoured = false
    for path in paths {
      let image = try ImageFile(path)
      isColoured = isColoured || image.isColoured
      guard options.size == nil else { continue }
      if let first, (first.height, first.width) != (image.height, image.width) {
        throw DLCError(
          .format,
          "the image is \(image.height)x\(image.width), '\(first.path)' is \(first.height)x\(first.width)",
          at: path, remedy: "--size HxW gives all of them one size")
      }
      if first == nil { first = (path, image.height, image.width) }
    }
    let height = options.size?.height ?? first!.height
    let width = options.size?.width ?? first!.width
    let channels = options.channels ?? (isColoured ? 3 : 1)
    let shape = options.layout.shape(height, width, channels)
    let type: DataType = options.keepsBytes ? .uint8 : .float32
    try TensorType(type, sizes: [paths.count] + shape).validate()
    let (paths, layout) = (self.paths, options.layout)
    var columns = [
      Dataset.Column(options.names.x, type, shape) { (row, target) throws(DLCError) in
        let image = try ImageFile(paths[row])
        let pixels = try image.pixels(channels: channels)
        func put(_ pixels: UnsafeRawBufferPointer) {
          let area = height * width
          for place in 0..<area {
            for channel in 0..<channels {
              let value = pixels[place * channels + channel]
              let index =
                layout == .flat ? place * channels + channel : channel * area + place
              if type == .uint8 {
                target[index] = value
              } else {
                target.storeBytes(
                  of: Float(value) / 255, toByteOffset: 4 * index, as: Float.self)
              }
            }
          }
        }
        let bytes = UnsafeRawBufferPointer(pixels.bytes)
        if (image.height, image.width) == (height, width) {
          withExtendedLifetime(pixels) { put(bytes) }
        } else if options.size == nil {
          throw DLCError(.format, "the image changed while it was read", at: paths[row])
        } else {
          let resized = withExtendedLifetime(pixels) {
            Resizing(from: (image.height, image.width), to: (height, width))
              .apply(bytes, channels: channels)
          }
          resized.withUnsafeBytes(put)
        }
      }
    ]
    guard !classes.isEmpty else { return Dataset(count: paths.count, columns: columns) }
    let labels = labels
    columns.append(
      Dataset.Column(options.names.y, .int32, []) { (row, target) throws(DLCError) in
        target.storeBytes(of: Int32(labels[row]), as: Int32.self)
      })
    return Dataset(
      count: paths.count, columns: columns, constants: [("classes", ClassNames.array(classes))])
  }
}
