"""Reading and writing of media: sound, video, pictures of faces. Input files are untrusted."""
